"""What the codecs need around the upgrade request: headers whatever their case, and queries that are not doubled."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_FIELDS = 100


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The header ``name``, whatever the case of the names in ``headers``; ``None`` where there is none."""
    wanted = name.lower()
    for found, value in headers.items():
        if found.lower() == wanted:
            return value
    return None


def with_query(url: str, fields: Mapping[str, str]) -> str:
    """``url`` with ``fields`` added to its query. What the URL itself already says stays as it is and outranks them."""
    parts = urlsplit(url)
    said = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    added = urlencode({name: value for name, value in fields.items() if name not in said})
    return urlunsplit(parts._replace(query="&".join(piece for piece in (parts.query, added) if piece), fragment=""))


def read_target(target: str) -> tuple[str, dict[str, str]] | None:
    """The path and the query of a request's target; of a field that is given twice, the last. ``None``: unreadable."""
    try:
        parts = urlsplit(target)
        return parts.path, dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError:
        return None

"""What the codecs need around the upgrade request: headers whatever their case, and queries that are not doubled."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_FIELDS = 100


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The header ``name``, whatever the case of the names in ``headers``; ``None`` where there is none, or several."""
    wanted = name.lower()
    for found in headers:
        if found.lower() == wanted:
            try:
                return headers[found]
            except LookupError:  # a mapping of HTTP headers may refuse to choose between two of the same name
                return None
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


def same_key(given: str | None, wanted: str) -> bool:
    """Whether ``given`` is the key ``wanted``; how long it takes to find out tells nothing about the key."""
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8"))

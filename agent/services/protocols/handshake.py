"""What is said around an upgrade: headers whatever their case, when to come again, queries that are not doubled."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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


def retry_after_seconds(headers: Mapping[str, str], most_seconds: float) -> float | None:
    """What ``Retry-After`` asks for (RFC 9110, 10.2.3), at most ``most_seconds``: a number of seconds, or a date, read
    against the answer's own ``Date``. ``None`` where it says nothing that can be understood.

    This device's clock is not asked: after a start without a network it may be years off.
    """
    asked = (header(headers, "Retry-After") or "").strip()
    if asked.isascii() and asked.isdigit():
        return min(float(asked), most_seconds)
    then, now = _http_date(asked), _http_date(header(headers, "Date") or "")
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), most_seconds)


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


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text[:100])
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

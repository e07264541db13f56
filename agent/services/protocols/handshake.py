"""Handles HTTP headers, queries and keys of a handshake, and explains HTTP status codes and close codes."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agent.services.protocols.codec import Failure
from agent.services.protocols.parsing import excerpt
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

_MAX_QUERY_FIELDS = 100


class StatusMeaning(NamedTuple):
    """The meaning of an HTTP status with which a service refuses a request. Immutable.

    Attributes:
        summary: A verb phrase that follows the name of the service or host, such as "refused the key".
        remedy: What the user can do, in the imperative; empty if only a retry can help.
        is_permanent: Whether a retry with the same settings is useless.
    """

    summary: str
    remedy: str = ""
    is_permanent: bool = True


STATUS_MEANINGS: Mapping[int, StatusMeaning] = {
    401: StatusMeaning("refused the key", "check api_key"),
    402: StatusMeaning("requires payment", "check the account"),
    403: StatusMeaning("refused the key", "check api_key and its permissions"),
    404: StatusMeaning("does not know the URL", "check url"),
    422: StatusMeaning("refused the settings", "check voice, model and format"),
    407: StatusMeaning("is behind a proxy that requires a login", "allow direct connections to it", is_permanent=False),
    429: StatusMeaning("received too many requests", is_permanent=False),
    503: StatusMeaning("is overloaded or under maintenance", is_permanent=False),
    511: StatusMeaning(
        "is behind a network that requires a login", "log in on the network's login page", is_permanent=False
    ),
}
"""The meanings of HTTP statuses. Other statuses mean only that the service refused the request."""

_SERVICE_MEANINGS: Mapping[tuple[str, int], StatusMeaning] = {
    # The service answers with 403 to each of these four problems (aplisay/llm-agent, docs/neuphonic.md).
    ("neuphonic", 403): StatusMeaning(
        "refused the key, voice, language or credit",
        "check api_key, voice, the language in url, and the credit of the account",
    ),
}
"""The statuses that have another meaning for one service, by the name of the service and the status."""

LOGIN_HINT = "; the network's login page or a proxy in between may answer in its place"
"""Is appended to the error message if a page or a redirect arrived in place of the service's response."""

CLOSE_MEANINGS: Mapping[int, str] = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no close code",
    1006: "connection lost",
    1007: "invalid text",
    1008: "policy violation",
    1009: "message too big",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
}
"""The WebSocket close codes (RFC 6455, 7.4.1, and the IANA registry)."""


def meaning_of(service: str, status: int | None) -> StatusMeaning | None:
    """Return the meaning of an HTTP status with which a service refuses a handshake; ``None`` if it is not known."""
    if status is None:
        return None
    return _SERVICE_MEANINGS.get((service, status)) or STATUS_MEANINGS.get(status)


def is_permanent(status: int | None) -> bool:
    """Return whether a retry is useless, for example after a refused key, without credit or with refused settings.

    400 (invalid request) is not permanent, because it may concern one text only.
    """
    meaning = STATUS_MEANINGS.get(status) if status is not None else None
    return meaning is not None and meaning.is_permanent


def status_of(fields: Mapping[str, object]) -> int | None:
    """Return the HTTP status in ``status``, ``status_code`` or ``code`` of an error object, or ``None``."""
    for name in ("status", "status_code", "code"):
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def reports_error(fields: Mapping[str, object]) -> bool:
    """Return whether a JSON message without a result is an error, by its ``type``, texts of errors or status.

    The type alone does not suffice: the servers in front of a service send the errors of its HTTP API, which have no
    type. FastAPI, for example, sends ``detail`` only.
    """
    is_bare = not any(fields.get(name) for name in ("type", "data", "audio"))
    has_text = bool(fields.get("error") or fields.get("errors") or (is_bare and fields.get("detail")))
    return fields.get("type") == "error" or has_text or (status_of(fields) or 0) >= 400


def reported_error(service: str, message: str | bytes, fields: Mapping[str, object], secret: str | None) -> Failure:
    """Return the failure for a JSON error message that arrived in place of audio.

    Args:
        service: The name of the service.
        message: The message, which is quoted.
        fields: The parsed message.
        secret: A key that the message may echo.
    """
    status = status_of(fields)
    received = f"the error {excerpt(message, secret)}"
    return Failure(service, received, "audio", permanent=is_permanent(status), status=status)


def describe_close(code: int, reason: str = "", secret: str | None = None) -> str:
    """Return the close code, its meaning and the peer's reason as text that is safe to log.

    Args:
        code: The WebSocket close code.
        reason: The peer's reason, untrusted.
        secret: A key that the peer may echo.
    """
    meaning = f" ({CLOSE_MEANINGS[code]})" if code in CLOSE_MEANINGS else ""
    return f"the close code {code}{meaning}{' ' + excerpt(reason, secret) if reason else ''}"


def header(headers: Mapping[str, str], name: str) -> str | None:
    """Return the value of a header; ``None`` if it is missing or repeated. The case of the name does not matter."""
    wanted = name.lower()
    for key in headers:
        if key.lower() == wanted:
            try:
                return headers[key]
            except LookupError:  # MultipleValuesError of websockets.Headers: the header is repeated
                return None
    return None


def retry_after_seconds(headers: Mapping[str, str], max_seconds: float) -> float | None:
    """Return the delay in seconds from ``Retry-After`` (RFC 9110, 10.2.3), which contains a number or a date.

    A date is compared with the ``Date`` header of the same response, because the clock of this device may be years off
    after a start without a network.

    Args:
        headers: The response headers.
        max_seconds: The upper limit of the result.

    Returns:
        Seconds, or ``None`` if the header is missing or invalid.
    """
    value = (header(headers, "Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), max_seconds)
    then, now = _http_date(value), _http_date(header(headers, "Date") or "")
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), max_seconds)


def with_query(url: str, fields: Mapping[str, str]) -> str:
    """Add fields to the query of a URL. A field that the URL already has keeps its value."""
    parts = urlsplit(url)
    present = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    added = urlencode({name: value for name, value in fields.items() if name not in present})
    return urlunsplit(parts._replace(query="&".join(query for query in (parts.query, added) if query), fragment=""))


def parse_target(target: str) -> tuple[str, dict[str, str]] | None:
    """Return path and query fields of a request target or URL; ``None`` if it is invalid.

    If a field is repeated, its last value is used. More than 100 fields are invalid.
    """
    try:
        parts = urlsplit(target)
        return parts.path, dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS))
    except ValueError:
        return None


def keys_match(received: str | None, expected: str) -> bool:
    """Return whether two keys are equal; compares in constant time."""
    return received is not None and hmac.compare_digest(received.encode("utf-8", "replace"), expected.encode("utf-8"))


def _http_date(text: str) -> datetime | None:
    try:
        from datetime import UTC
        from email.utils import parsedate_to_datetime  # imported late: takes 0.3 MiB and is rarely needed

        date = parsedate_to_datetime(text[:100])
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    except OSError:  # the import fails if no file descriptor is free
        return None

"""Decoding and quoting of untrusted messages: bounded, strict, and never raising."""

from __future__ import annotations

import base64
import binascii

from agent.services.protocols.codec import Message
from agent.system.json_text import MAX_MESSAGE_BYTES, json_type, redact

MAX_EXCERPT_CHARACTERS = 200
_MAX_SHOWN_BYTES = 16


def excerpt(message: Message, secret: str | None = None) -> str:
    """Quote the beginning of a message, safe to log and to show: printable, and at most 200 characters.

    Text is quoted with control, bidirectional and other invisible characters escaped as Python escapes them. A binary
    message is shown as its length and its first 16 bytes in hexadecimal.

    Args:
        message: The message.
        secret: A key that the peer may echo; every occurrence is replaced by `***`.
    """
    if isinstance(message, bytes):
        message = _redact_bytes(message, secret)
        shown = message[:_MAX_SHOWN_BYTES].hex(" ")
        if not shown:
            return "<no bytes>"
        return f"<{len(message)} bytes: {shown}{' ...' if len(message) > _MAX_SHOWN_BYTES else ''}>"
    message = redact(message, secret)
    quoted: list[str] = []
    room = MAX_EXCERPT_CHARACTERS - len("''...")
    for character in message[:MAX_EXCERPT_CHARACTERS]:
        escaped = "\\'" if character == "'" else repr(character)[1:-1]
        if len(escaped) > room:
            break
        quoted.append(escaped)
        room -= len(escaped)
    return f"'{''.join(quoted)}'{'...' if len(quoted) < len(message) else ''}"


def decode_base64(value: object) -> bytes | str:
    """Decode base64 audio: standard alphabet with padding. Never raises.

    White space, the URL-safe alphabet and data after the padding are refused: decoded leniently they would be played
    as noise.

    Returns:
        The bytes, or the reason for the refusal as a clause that fits after "because".
    """
    if not isinstance(value, str):
        return f"its audio is {json_type(value)}, not base64 text"
    if len(value) > MAX_MESSAGE_BYTES:
        return f"its audio is bigger than {MAX_MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "its audio is not base64"


def status_of(fields: dict[str, object]) -> int | None:
    """Return the HTTP status in `status`, `status_code` or `code` of an error object, or `None`."""
    for name in ("status", "status_code", "code"):
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def is_permanent(status: int | None) -> bool:
    """Return whether a retry is useless: a refused key, an account without credit, an invalid request."""
    return status in (400, 401, 402, 403, 404, 422)


def _redact_bytes(data: bytes, secret: str | None) -> bytes:
    # Latin-1 maps bytes and characters one to one, so that `redact` is the only place with the rule for short secrets.
    if secret is None:
        return data
    return redact(data.decode("latin-1"), secret.encode("utf-8", "replace").decode("latin-1")).encode("latin-1")

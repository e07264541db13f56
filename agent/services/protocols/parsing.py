"""Decodes, quotes and encodes messages. Decoding is bounded and strict and never raises."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping

from agent.services.protocols.codec import Failure, Message
from agent.system.json_text import MAX_MESSAGE_BYTES, json_type, redact

MAX_EXCERPT_CHARACTERS = 200
_MAX_SHOWN_BYTES = 16
_WAV_HEADER_BYTES = 44
_WHITE_SPACE = b" \t\n\r\f\v"


def excerpt(message: Message, secret: str | None = None) -> str:
    """Quote the beginning of a message as printable text of at most 200 characters, safe to log and to show.

    In a text message, control, bidirectional and other invisible characters are escaped as in Python. A binary
    message is shown as its length and its first 16 bytes in hexadecimal.

    Args:
        message: The message.
        secret: A key that the peer may echo; every occurrence is replaced by ``***``.
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
    """Decode base64 audio with the standard alphabet and padding; line breaks are allowed. Never raises.

    The URL-safe alphabet and data after the padding are refused: a lenient decoder would turn them into noise.

    Returns:
        The bytes, or the reason for the refusal as a clause that fits after "because".
    """
    if not isinstance(value, str):
        return f"its audio is {json_type(value)}, not base64 text"
    if len(value) > MAX_MESSAGE_BYTES:
        return f"its audio is bigger than {MAX_MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        return binascii.a2b_base64(value, strict_mode=True)  # base64.b64decode would copy the text
    except (binascii.Error, ValueError):
        pass
    try:  # MIME breaks base64 into lines (RFC 2045, 6.8)
        return binascii.a2b_base64(value.encode("ascii").translate(None, _WHITE_SPACE), strict_mode=True)
    except (binascii.Error, ValueError):
        return "its audio is not base64"


def is_wav_header(audio: bytes) -> bool:
    """Return whether a message contains only the header of a WAV file, or a part of it.

    Some services send the header immediately, before the first audio.
    """
    return audio.startswith(b"RIFF") and (len(audio) <= _WAV_HEADER_BYTES or audio[-8:-4] == b"data")


def dump_json(fields: Mapping[str, object]) -> str:
    """Encode a JSON message without escaping non-ASCII characters."""
    return json.dumps(fields, ensure_ascii=False)


def dump_error(failure: Failure) -> str:
    """Encode a failure as the JSON error message of a speech service: ``type``, ``message``, ``status_code``."""
    fields: dict[str, object] = {"type": "error", "message": f"{failure.received}; expected {failure.expected}"}
    if failure.status is not None:
        fields["status_code"] = failure.status
    return dump_json(fields)


def _redact_bytes(data: bytes, secret: str | None) -> bytes:
    # ``redact`` has the rule for short secrets. It takes text, and Latin-1 maps bytes to characters one to one.
    if secret is None:
        return data
    return redact(data.decode("latin-1"), secret.encode("utf-8", "replace").decode("latin-1")).encode("latin-1")

"""Reading and quoting what came over the wire: bounded, strict, and never raising.

Everything here takes untrusted input. What cannot be used is answered with a reason, a ``str`` that fits after
"because", so that a codec can put it into its ``Failure``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import NoReturn

from agent.services.protocols.codec import Message

MESSAGE_BYTES = 8 * 1024 * 1024
"""No service sends a single message near this size; a bigger one is refused before it is parsed."""

EXCERPT_CHARACTERS = 200
_BYTES_SHOWN = 16
_SECRET_CHARACTERS = 4


def excerpt(message: Message, secret: str | None = None) -> str:
    """The beginning of ``message``, safe to log and to show: at most 200 characters, all of them printable.

    Text is quoted, with control, bidirectional and other invisible characters escaped as Python does; of a binary
    message it tells the length and the first bytes in hexadecimal. ``secret``, a key that the other side may echo, is
    blotted out wherever it stands.
    """
    if isinstance(message, bytes):
        if secret is not None and len(secret) >= _SECRET_CHARACTERS:
            message = message.replace(secret.encode("utf-8", "replace"), b"***")
        shown = message[:_BYTES_SHOWN].hex(" ")
        if not shown:
            return "<no bytes>"
        return f"<{len(message)} bytes: {shown}{' ...' if len(message) > _BYTES_SHOWN else ''}>"
    message = redact(message, secret)
    pieces: list[str] = []
    room = EXCERPT_CHARACTERS - len("''...")
    for letter in message[:EXCERPT_CHARACTERS]:
        piece = "\\'" if letter == "'" else repr(letter)[1:-1]
        if len(piece) > room:
            break
        pieces.append(piece)
        room -= len(piece)
    return f"'{''.join(pieces)}'{'...' if len(pieces) < len(message) else ''}"


def redact(text: str, secret: str | None) -> str:
    """``text`` with ``***`` wherever ``secret`` stands; a secret under 4 characters is none."""
    # Blotting out every "k" would hide the text, not the key.
    return text if secret is None or len(secret) < _SECRET_CHARACTERS else text.replace(secret, "***")


def parse_json(message: Message) -> dict[str, object] | str:
    """The JSON object in ``message``, or the reason why there is none. Never raises.

    The size is checked before anything is parsed (8 MiB). Binary messages are read as UTF-8. Values that JSON does not
    have (NaN, infinities, also by way of ``1e999``), endless nesting and endless digits are refused. Unknown fields are
    kept: whether a field is known is for the codec to say.
    """
    if len(message) > MESSAGE_BYTES:
        return f"it is bigger than {MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        text = message.decode("utf-8") if isinstance(message, bytes) else message
        found = json.loads(text, parse_constant=_no_such_number, parse_float=_finite)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return "it is not JSON"
    if not isinstance(found, dict):
        return "it is JSON, but no object"
    return found


def decode_base64(value: object) -> bytes | str:
    """The bytes that ``value``, base64 of the standard alphabet with its padding, stands for; or the reason why none.

    Never raises. White space, the URL alphabet and anything after the padding are refused: let through they would not
    be an error but noise in a loudspeaker.
    """
    if not isinstance(value, str):
        return f"its audio is {kind(value)}, not base64 text"
    if len(value) > MESSAGE_BYTES:
        return f"its audio is bigger than {MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "its audio is not base64"


def clean(text: str) -> str:
    """``text`` with lone surrogates (JSON can smuggle them in) replaced, so that it can be encoded and written."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def status_of(found: dict[str, object]) -> int | None:
    """The HTTP status that an error object names in ``status``, ``status_code`` or ``code``, if it names one."""
    for name in ("status", "status_code", "code"):
        value = found.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def is_permanent(status: int | None) -> bool:
    """Whether asking again changes nothing: a refused key, an empty account, a request that cannot be."""
    return status in (400, 401, 402, 403, 404, 422)


def kind(value: object) -> str:
    """What JSON calls the type of ``value``, for a message a user reads."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number without end is not JSON")
    return number

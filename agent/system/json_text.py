"""Parses JSON from untrusted peers within limits, and makes its texts safe to encode and to quote."""

from __future__ import annotations

import json
import math
from typing import NoReturn

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest accepted JSON message. It is far larger than any message of a service."""

MAX_NESTING = 100
"""Deepest accepted nesting of lists and objects. Python can fail to encode a deeper value, depending on the caller."""

_MIN_SECRET_CHARACTERS = 4


def parse_json(message: str | bytes) -> dict[str, object] | str:
    """Parse the JSON object in a message. Never raises.

    The size limit (``MAX_MESSAGE_BYTES``) is checked before parsing. Bytes are decoded as UTF-8. NaN, infinities (also
    ``1e999``), excessive nesting and excessive digits are refused.

    Returns:
        The object with all its fields, known or not; or the reason for the refusal as a clause that fits after
        "because".
    """
    if len(message) > MAX_MESSAGE_BYTES:
        return f"it is bigger than {MAX_MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        text = message.decode("utf-8") if isinstance(message, bytes) else message
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return "it is not JSON"
    if not isinstance(value, dict):
        return "it is JSON, but no object"
    if _is_nested_deeply(value):
        return "its lists and objects are nested too deeply"
    return value


def _is_nested_deeply(value: dict[str, object]) -> bool:
    # Checks the values instead of the text: counting the brackets of a message with audio takes as long as parsing it.
    level: list[dict[str, object] | list[object]] = [value]
    for _ in range(MAX_NESTING):
        if not level:
            return False
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def json_type(value: object) -> str:
    """Return the name of the JSON type of a value, with its article, for messages to the user."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def redact(text: str, secret: str | None) -> str:
    """Replace every occurrence of a secret by ``***``; a secret of fewer than 4 characters is left in place."""
    # To redact every "k", for example, would make the text unreadable and would not protect the key.
    return text if secret is None or len(secret) < _MIN_SECRET_CHARACTERS else text.replace(secret, "***")


def fix_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON escapes can produce, so that the text can be encoded as UTF-8."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that overflows is not JSON")
    return number


# json.loads would create a decoder for each message.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite_float)

"""Single values: what YAML makes of a word against what the key is meant to hold, surprises explained."""

from __future__ import annotations

import math
import re

from agent.config.errors import suggestion
from agent.config.fields import Field
from agent.config.yaml_tree import Scalar
from agent.system.text import escape

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?|[-+]?\.[0-9]+")
_POWER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,2}")


class Refused(Exception):
    """A value is not what its key is meant to hold; says what it is, and what was expected."""

    def __init__(self, what: str, suggestion: str | None = None) -> None:
        super().__init__(what)
        self.suggestion = suggestion


def quoted(text: str) -> str:
    """A piece of the configuration as it is shown in a mistake."""
    return f'"{escape(text, 40)}"'


def as_text(scalar: Scalar, shape: Field) -> str:
    """Text is text only where YAML takes it for text: a voice called ``no`` has to be written in quotes.
    Raises ``Refused``."""
    text = scalar.text
    if scalar.null:
        raise Refused(f"the value is missing, expected {_text_expected(shape)} (without the key its default is taken)")
    if scalar.tag != "str":
        taken = _TAKEN.get(scalar.tag, "something else")
        if shape.choices:
            raise Refused(
                f"YAML takes {quoted(text)} for {taken}, expected {_text_expected(shape)}", _choice(text, shape)
            )
        raise Refused(f'YAML takes {quoted(text)} for {taken}, expected a text: put it in quotes, "{escape(text, 40)}"')
    if shape.choices and text not in shape.choices:
        raise Refused(f"{quoted(text)} is not known here, expected {_text_expected(shape)}", _choice(text, shape))
    if any(ord(letter) < 32 and letter != "\n" for letter in text) or "\x7f" in text:
        raise Refused("it holds a control character, expected printable text")
    return text


def as_whole(scalar: Scalar, shape: Field) -> int:
    """A whole number in decimal digits, one of the choices or within the bounds of its key. Raises ``Refused``."""
    text = scalar.text
    if not scalar.plain and _WHOLE.fullmatch(text):
        raise Refused(f"{quoted(text)} is a text because of its quotes, expected a whole number: remove the quotes")
    if scalar.plain and _WHOLE.fullmatch(text) and len(text) > 18:
        raise Refused(f"{quoted(text)} has too many digits, expected a whole number{_range(shape)}")
    if not scalar.plain or not _WHOLE.fullmatch(text):
        raise Refused(f"{_surprise(scalar)}, expected a whole number{_range(shape)}")
    value = int(text)
    _bounds(value, text, shape, "a whole number")
    return value


def as_number(scalar: Scalar, shape: Field) -> float:
    """A number without an exponent, one of the choices or within the bounds of its key. Raises ``Refused``."""
    text = scalar.text
    if not scalar.plain and _NUMBER.fullmatch(text):
        raise Refused(f"{quoted(text)} is a text because of its quotes, expected a number: remove the quotes")
    if not scalar.plain or not _NUMBER.fullmatch(text) or len(text) > 30:
        raise Refused(f"{_surprise(scalar)}, expected a number{_range(shape)}")
    value = float(text)
    if not math.isfinite(value):
        raise Refused(f"{quoted(text)} has no end, expected a number{_range(shape)}")
    _bounds(value, text, shape, "a number")
    return value


def as_truth(scalar: Scalar) -> bool:
    """``true`` or ``false``, without quotes, and nothing else that YAML takes for one. Raises ``Refused``."""
    lowered = scalar.text.lower()
    if scalar.plain and lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("yes", "on", "y", "1"):
        raise Refused(f"{quoted(scalar.text)} stands here, expected true or false: write true", "true")
    if lowered in ("no", "off", "n", "0"):
        raise Refused(f"{quoted(scalar.text)} stands here, expected true or false: write false", "false")
    if lowered in ("true", "false"):
        raise Refused(f"{quoted(scalar.text)} is a text because of its quotes, expected true or false without quotes")
    shown = "nothing" if scalar.null and not scalar.text else quoted(scalar.text)
    raise Refused(f"{shown} stands here, expected true or false", suggestion(scalar.text, ("true", "false")))


_TAKEN = {
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a default value",
}


def _surprise(scalar: Scalar) -> str:
    """What stands where a number should, with what YAML would have made of it."""
    text = scalar.text
    if scalar.null and scalar.plain:
        return "the value is missing"
    if scalar.plain:
        if ":" in text and scalar.tag in ("int", "float"):
            return f"YAML takes {quoted(text)} for a time in base sixty; write the number of seconds"
        if re.fullmatch(r"[-+]?0[0-9]+", text):
            return f"{quoted(text)} begins with 0, which YAML takes for an octal number; write it without the 0"
        if re.fullmatch(r"[-+]?0[xXbB][0-9a-fA-F_]+", text):
            return f"{quoted(text)} is not written in decimal digits"
        if "_" in text and scalar.tag in ("int", "float"):
            return f"{quoted(text)} has an underline; write the digits alone"
        if _POWER.fullmatch(text):
            return f"{quoted(text)} has an exponent, which YAML takes for a text; write {float(text):.15g}"
        if scalar.tag == "bool":
            return f"YAML takes {quoted(text)} for a truth value"
        if scalar.tag == "timestamp":
            return f"YAML takes {quoted(text)} for a date"
        if scalar.tag == "float" and _NUMBER.fullmatch(text):
            return f"{quoted(text)} has a fraction"
    unit = re.fullmatch(r"\s*[-+]?[0-9.]*[0-9]\.?\s*[a-zA-Z%]+\s*", text)
    if unit:
        return f"{quoted(text)} has a unit; write the number alone"
    return f"{quoted(text)} is not a number"


def _bounds(value: float, text: str, shape: Field, kind: str) -> None:
    if shape.choices:
        if value not in shape.choices:
            close = min(shape.choices, key=lambda choice: abs(choice - value))
            raise Refused(f"{text} is not possible, expected one of {_list(shape)}", str(close))
        return
    low, high = shape.metadata.get("low"), shape.metadata.get("high")
    if low is not None and value < low:
        raise Refused(f"{text} is too small, expected {kind}{_range(shape)}")
    if high is not None and value > high:
        raise Refused(f"{text} is too large, expected {kind}{_range(shape)}")


def _range(shape: Field) -> str:
    if shape.choices:
        return f", one of {_list(shape)}"
    low, high = shape.metadata.get("low"), shape.metadata.get("high")
    if low is None or high is None:
        return ""
    return f" from {low:g} to {high:.12g}"


def _text_expected(shape: Field) -> str:
    return f"one of {_list(shape)}" if shape.choices else "a text"


def _list(shape: Field) -> str:
    return ", ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in shape.choices)


def _choice(text: str, shape: Field) -> str | None:
    return suggestion(
        text, [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in shape.choices]
    )

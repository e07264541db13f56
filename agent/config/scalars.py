"""Converts single YAML values to the types of keys, and explains values that YAML reads in an unexpected way."""

from __future__ import annotations

import math
import re

from agent.config.errors import suggestion
from agent.config.fields import Field
from agent.config.tree import Scalar
from agent.system.text import escape

_INTEGER = r"[-+]?(0|[1-9][0-9]*)"
_NUMBER = r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?|[-+]?\.[0-9]+"
_CONTROL = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]"
_INVISIBLE = "^[\u00a0\u2000-\u200f\u202f\u205f\u3000\ufeff]|[\u00a0\u2000-\u200f\u202f\u205f\u3000\ufeff]$"
_TYPOGRAPHIC_QUOTES = frozenset("“”„‟«»‘’‚‛‹›")
_EXPONENT = r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,2}"


class Invalid(Exception):
    """A value does not fit its key; the text describes the value and what is expected."""

    def __init__(self, what: str, suggestion: str | None = None) -> None:
        super().__init__(what)
        self.suggestion = suggestion


def quoted(text: str) -> str:
    """Return a text of the configuration for messages: in quotes, escaped, at most 40 characters."""
    return f'"{escape(text, 40)}"'


def as_str(scalar: Scalar, field: Field) -> str:
    """Return a text. A value that YAML reads as another type, such as ``no``, needs quotes. Raises ``Invalid``."""
    text = scalar.text
    if scalar.is_null:
        raise Invalid(f"the value is missing, expected {_expected(field)} (remove the key to use its default)")
    if scalar.tag != "str":
        kind = _YAML_TYPES.get(scalar.tag, "another type")
        if field.choices:
            raise Invalid(f"YAML reads {quoted(text)} as {kind}, expected {_expected(field)}", _choice(text, field))
        raise Invalid(f'YAML reads {quoted(text)} as {kind}, expected a text: put it in quotes, "{escape(text, 40)}"')
    if text in ("true", "false") and any(each is (text == "true") for each in field.choices):
        raise Invalid(f"{quoted(text)} is a text because of its quotes, expected {_expected(field)} without quotes")
    if field.choices and text not in field.choices:
        raise Invalid(f"{quoted(text)} is not known here, expected {_expected(field)}", _choice(text, field))
    # Almost every text is printable and returned here. A pattern with characters beyond Latin-1 takes 1 to 4 ms to
    # compile.
    if text.isprintable() and text[:1] not in _TYPOGRAPHIC_QUOTES:
        return text
    if re.search(_CONTROL, text):
        what = "it has a control character, expected printable text"
        cure = r": in double quotes, \b and the like are escapes; put the text in single quotes, as in '\bhi\b'"
        raise Invalid(what if scalar.is_plain else f"{what}{cure}")
    if scalar.is_plain and (invisible := re.search(_INVISIBLE, text)):
        code = ord(invisible[0].strip(" "))
        raise Invalid(f"it begins or ends with the invisible character U+{code:04X}, expected printable text")
    if scalar.is_plain and text[:1] in _TYPOGRAPHIC_QUOTES and text[-1:] in _TYPOGRAPHIC_QUOTES and len(text) > 1:
        raise Invalid("it is in typographic quotes, which would belong to the text, expected straight quotes")
    return text


def as_int(scalar: Scalar, field: Field) -> int:
    """Return a whole number in decimal digits, within the choices or bounds of the key. Raises ``Invalid``."""
    text = scalar.text
    if not scalar.is_plain and re.fullmatch(_INTEGER, text):
        raise Invalid(f"{quoted(text)} is a text because of its quotes, expected a whole number: remove the quotes")
    if scalar.is_plain and re.fullmatch(_INTEGER, text) and len(text) > 18:
        raise Invalid(f"{quoted(text)} has too many digits, expected a whole number{_range(field)}")
    if not scalar.is_plain or not re.fullmatch(_INTEGER, text):
        raise Invalid(f"{_surprise(scalar)}, expected a whole number{_range(field)}")
    value = int(text)
    _check_bounds(value, text, field, "a whole number")
    return value


def as_number_or_word(scalar: Scalar, field: Field) -> float | str:
    """Return one of the choices of the key, or a number of its kind within its bounds. Raises ``Invalid``."""
    if scalar.text in field.choices:
        return scalar.text
    number = field._replace(metadata={name: value for name, value in field.metadata.items() if name != "choices"})
    try:
        return as_float(scalar, number) if field.kind == "float or word" else as_int(scalar, number)
    except Invalid as refused:
        words = ", ".join(_words(field))
        raise Invalid(f"{refused}, or {words}", suggestion(scalar.text, field.choices)) from None


def as_float(scalar: Scalar, field: Field) -> float:
    """Return a number without an exponent, within the choices or bounds of the key. Raises ``Invalid``."""
    text = scalar.text
    if not scalar.is_plain and re.fullmatch(_NUMBER, text):
        raise Invalid(f"{quoted(text)} is a text because of its quotes, expected a number: remove the quotes")
    if not scalar.is_plain or not re.fullmatch(_NUMBER, text) or len(text) > 30:
        raise Invalid(f"{_surprise(scalar)}, expected a number{_range(field)}")
    value = float(text)
    if not math.isfinite(value):
        raise Invalid(f"{quoted(text)} is infinite, expected a number{_range(field)}")
    _check_bounds(value, text, field, "a number")
    return value


def as_bool(scalar: Scalar) -> bool:
    """Return a truth value. Only ``true`` and ``false`` are accepted; others, such as ``yes``, raise ``Invalid``."""
    lowered = scalar.text.lower()
    if scalar.is_plain and lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("yes", "on", "y", "1"):
        raise Invalid(f"the value is {quoted(scalar.text)}, expected true or false: write true", "true")
    if lowered in ("no", "off", "n", "0"):
        raise Invalid(f"the value is {quoted(scalar.text)}, expected true or false: write false", "false")
    if lowered in ("true", "false"):
        raise Invalid(f"{quoted(scalar.text)} is a text because of its quotes, expected true or false without quotes")
    shown = "missing" if scalar.is_null and not scalar.text else quoted(scalar.text)
    raise Invalid(f"the value is {shown}, expected true or false", suggestion(scalar.text, ("true", "false")))


_YAML_TYPES = {
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a default value",
}


def _surprise(scalar: Scalar) -> str:
    """Describe a value that is not a number, and how YAML reads it."""
    text = scalar.text
    if scalar.is_null and scalar.is_plain:
        return "the value is missing"
    if scalar.is_plain:
        if ":" in text and scalar.tag in ("int", "float"):
            return f"YAML reads {quoted(text)} as a time in base sixty; write the number of seconds"
        if re.fullmatch(r"[-+]?0[0-9]+", text):
            return f"{quoted(text)} begins with 0, which YAML reads as an octal number; write it without the 0"
        if re.fullmatch(r"[-+]?0[xXbB][0-9a-fA-F_]+", text):
            return f"{quoted(text)} is not written in decimal digits"
        if "_" in text and scalar.tag in ("int", "float"):
            return f"{quoted(text)} has an underline; write the digits alone"
        if re.fullmatch(_EXPONENT, text):
            return f"{quoted(text)} has an exponent, which YAML reads as a text; write {without_exponent(text)}"
        if scalar.tag == "bool":
            return f"YAML reads {quoted(text)} as a truth value"
        if scalar.tag == "timestamp":
            return f"YAML reads {quoted(text)} as a date"
        if scalar.tag == "float" and re.fullmatch(_NUMBER, text):
            return f"{quoted(text)} has a fraction"
    if re.fullmatch(r"\s*[-+]?[0-9.]*[0-9]\.?\s*[a-zA-Z%]+\s*", text):
        return f"{quoted(text)} has a unit; write the number alone"
    return f"{quoted(text)} is not a number"


def without_exponent(text: str) -> str:
    """Return a number without an exponent: YAML 1.1 reads some exponents as text, and ``as_float`` accepts none."""
    from decimal import Decimal  # imported late: few values need it

    number = f"{Decimal(text):f}"
    return number.rstrip("0").rstrip(".") if "." in number else number


def _check_bounds(value: float, text: str, field: Field, kind: str) -> None:
    if field.choices:
        if value not in field.choices:
            close = min(field.choices, key=lambda choice: abs(choice - value))
            raise Invalid(f"{text} is not possible, expected one of {', '.join(_words(field))}", str(close))
        return
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is not None and value < low:
        raise Invalid(f"{text} is too small, expected {kind}{_range(field)}")
    if high is not None and value > high:
        raise Invalid(f"{text} is too large, expected {kind}{_range(field)}")


def _range(field: Field) -> str:
    if field.choices:
        return f", one of {', '.join(_words(field))}"
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is None or high is None:
        return ""
    return f" from {low:g} to {high:.12g}"


def _expected(field: Field) -> str:
    return f"one of {', '.join(_words(field))}" if field.choices else "a text"


def _words(field: Field) -> list[str]:
    return [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in field.choices]


def _choice(text: str, field: Field) -> str | None:
    return suggestion(text, _words(field))

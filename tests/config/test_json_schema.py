"""The JSON Schema of a configuration."""

from __future__ import annotations

import jsonschema

from agent.config.fields import key, section
from agent.config.json_schema import schema
from agent.system.named_tuple import NamedTuple


@section
class Sample(NamedTuple):
    """A section with optional keys whose value is a number or a word."""

    port: int | str | None = key(None, "a port", choices=("none",), low=1)
    delay: float | str | None = key(None, "a delay", choices=("auto",), low=0.0)


def test_an_optional_number_or_word_may_be_null() -> None:
    validator = jsonschema.Draft202012Validator(schema(Sample))
    validator.validate({"port": None, "delay": None})
    validator.validate({"port": 1, "delay": "auto"})
    assert not validator.is_valid({"port": 0}) and not validator.is_valid({"delay": "none"})

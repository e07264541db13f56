from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.responders.tools.json_schema import ArgumentError, check_arguments, schema_problem

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "word": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
        "count": {"type": ["integer", "null"], "minimum": 1, "exclusiveMaximum": 10},
        "part": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "mode": {"enum": ["on", "off", 1, None]},
        "fixed": {"const": 1},
        "list": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "maxItems": 2},
        "either": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
        "one": {"oneOf": [{"type": "number"}, {"type": "integer"}]},
        "all": {"allOf": [{"type": "string"}, {"minLength": 1}]},
        "never": False,
    },
    "required": ["word"],
    "additionalProperties": {"type": "boolean"},
    "$defs": {"item": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/item"}}}},
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.floats(-1, 2, allow_nan=False)
    | st.sampled_from(["", "a", "ab", "abcd", "abcde", "A1", "on", "off"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["inner", "x"]), inner, max_size=2),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from([*SCHEMA["properties"], "more"]), VALUES, max_size=4)


@given(ARGUMENTS)
def test_verdict_is_that_of_the_reference_library(arguments: dict[str, Any]) -> None:
    expected = jsonschema.Draft202012Validator(SCHEMA).is_valid(arguments)
    try:
        check_arguments(SCHEMA, arguments)
    except ArgumentError:
        assert not expected
    else:
        assert expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array"}, "no schema of an object"),
        ("object", "no schema of an object"),
        ({"type": "object", "properties": []}, "properties"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "type of a"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com"}}}, "$ref"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "pattern"),
        ({"type": "object", "properties": {"a": "string"}}, "a is no schema"),
        ({"type": "object", "required": "a"}, "required"),
        ({"type": "object", "properties": {"a": {"anyOf": []}}}, "anyOf"),
    ],
)
def test_unusable_schema_is_explained(schema: Any, expected: str) -> None:
    assert expected in str(schema_problem(schema))


def test_usable_schema_has_no_problem_and_foreign_keywords_are_ignored() -> None:
    assert schema_problem(SCHEMA) is None
    assert schema_problem({"type": "object", "minProperties": 2}, is_from_server=True) is None
    assert schema_problem({"type": "object", "properties": 3}, is_from_server=True) is not None


def test_schemas_that_refer_to_themselves_end() -> None:
    loop = {"type": "object", "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}
    double = {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}
    for schema in (loop, {"type": "object", "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": double}}):
        assert schema_problem(schema, is_from_server=True) is None
        with pytest.raises(ArgumentError):
            check_arguments(schema, {})


@pytest.mark.parametrize("pattern", ["^(a+)+$", r"^\p{L}+$"])
def test_patterns_of_foreign_schemas_are_not_used(pattern: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    assert schema_problem(schema, is_from_server=True) is None
    check_arguments(schema, {"a": "a" * 40 + "!"}, with_patterns=False)

"""Reading of untrusted JSON, and helpers for its text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.untrusted import ANY_TEXT

from agent.system.json_text import MAX_MESSAGE_BYTES, fix_surrogates, json_type, parse_json, redact


def test_parse_json_accepts_text_and_utf_8():
    assert parse_json('{"a": [1, "ü"]}') == {"a": [1, "ü"]}
    assert parse_json(b'{"a": 1}') == {"a": 1}


def test_parse_json_accepts_many_lists_that_are_not_nested_deeply():
    assert parse_json(json.dumps({"a": [[[]]] * 1000})) == {"a": [[[]]] * 1000}
    assert isinstance(parse_json('{"a": ' + "[" * 99 + "]" * 99 + "}"), dict)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[1]",
        "3",
        "null",
        '"text"',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 100 + "]" * 100 + "}",  # a caller may be unable to encode it again
        "[" * 100_000,
        '{"a":' * 100_000,
        b"\xff\xfe{",
        '{"a": 1}'.encode("utf-16"),
        "{} {}",
    ],
)
def test_parse_json_returns_a_reason_for_everything_but_an_object(message):
    assert isinstance(parse_json(message), str)


def test_parse_json_checks_the_size_before_it_parses():
    inside = '{"a": "' + "x" * 1000 + '"}'
    assert parse_json(inside + " " * (MAX_MESSAGE_BYTES - len(inside))) == {"a": "x" * 1000}
    assert parse_json(inside + " " * MAX_MESSAGE_BYTES) == "it is bigger than 8 MiB"


@given(ANY_TEXT | st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_parse_json_never_raises(message):
    assert isinstance(parse_json(message), dict | str)


def test_json_type_names_every_type_of_json():
    values = (None, True, 1, 1.5, "x", [], {})
    names = ["null", "a boolean", "a number", "a number", "text", "a list", "an object"]
    assert [json_type(value) for value in values] == names


def test_redact_hides_every_occurrence_of_a_secret_of_4_characters_or_more():
    assert redact("SESAME1 and SESAME1", "SESAME1") == "*** and ***"
    assert redact("a key", "key") == redact("a key", None) == "a key"


@given(ANY_TEXT)
def test_fix_surrogates_makes_every_text_encodable(text):
    fix_surrogates(text).encode("utf-8")


@given(st.text())
def test_fix_surrogates_keeps_a_valid_text(text):
    assert fix_surrogates(text) == text

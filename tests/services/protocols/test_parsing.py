"""Quoting and reading untrusted messages."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.services.protocols.parsing import (
    MESSAGE_BYTES,
    clean,
    decode_base64,
    excerpt,
    is_permanent,
    parse_json,
    status_of,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT | st.binary())
def test_an_excerpt_is_short_and_printable_whatever_came(message):
    shown = excerpt(message)
    assert len(shown) <= 200
    assert shown.isprintable()
    shown.encode("utf-8")


def test_an_excerpt_of_a_text_escapes_what_could_steer_a_terminal():
    assert excerpt("a\n\x1b[31m\u202eb\u2066\u200b\x00") == "'a\\n\\x1b[31m\\u202eb\\u2066\\u200b\\x00'"


def test_an_excerpt_keeps_letters_of_every_language_as_they_are():
    assert excerpt("für 你好") == "'für 你好'"


def test_an_excerpt_says_where_it_is_cut_and_never_cuts_an_escape():
    shown = excerpt("\x00" * 1000)
    assert shown.endswith("\\x00'...") and len(shown) <= 200


def test_an_excerpt_of_bytes_is_their_length_and_the_first_ones():
    assert excerpt(b"RIFF") == "<4 bytes: 52 49 46 46>"
    assert excerpt(bytes(1000)) == "<1000 bytes: " + "00 " * 16 + "...>"
    assert excerpt(b"") == "<no bytes>"


@pytest.mark.parametrize("message", ["wrong key SESAME123!", b"SESAME123 no", "x" * 195 + "SESAME123"])
def test_an_excerpt_never_shows_a_key_that_the_other_side_echoes(message):
    shown = excerpt(message, "SESAME123")
    assert "SES" not in shown and b"SESA".hex(" ") not in shown


def test_an_object_is_read_from_text_and_from_bytes():
    assert parse_json('{"a": [1, "ü"]}') == {"a": [1, "ü"]}
    assert parse_json(b'{"a": 1}') == {"a": 1}


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
        "[" * 100_000,
        '{"a":' * 100_000,
        b"\xff\xfe{",
        '{"a": 1}'.encode("utf-16"),
        "{} {}",
    ],
)
def test_what_is_no_object_is_answered_with_a_reason(message):
    assert isinstance(parse_json(message), str)


def test_a_message_that_is_too_big_is_not_even_parsed():
    inside = '{"a": "' + "x" * 1000 + '"}'
    assert parse_json(inside + " " * (MESSAGE_BYTES - len(inside))) == {"a": "x" * 1000}
    assert parse_json(inside + " " * MESSAGE_BYTES) == "it is bigger than 8 MiB"


@given(ANY_TEXT | st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_reading_never_raises(message):
    assert isinstance(parse_json(message), dict | str)
    assert isinstance(decode_base64(message), bytes | str)


@given(st.binary())
def test_base64_is_read_back(sound):
    assert decode_base64(base64.b64encode(sound).decode()) == sound


@pytest.mark.parametrize(
    "value", ["-_-_", "QQ==QQ==", "QQ==\n", " QQ==", "QQ", "Q", "=", "ä", "\ud800", None, 1, b"QQ==", []]
)
def test_what_is_not_strict_base64_becomes_no_noise(value):
    assert isinstance(decode_base64(value), str)


def test_too_much_base64_is_refused_before_it_is_decoded():
    assert decode_base64("A" * (MESSAGE_BYTES + 4)) == "its audio is bigger than 8 MiB"


@given(ANY_TEXT)
def test_a_clean_text_can_be_written(text):
    clean(text).encode("utf-8")


@given(st.text())
def test_a_text_that_is_whole_stays_as_it_is(text):
    assert clean(text) == text


def test_a_status_is_a_status_only_where_it_can_be_one():
    assert status_of({"status": 429}) == 429
    assert status_of({"code": 401, "message": "x"}) == 401
    assert [status_of({"status": odd}) for odd in (True, "401", 7, 1e3, None)] == [None] * 5
    assert is_permanent(401) and not is_permanent(429) and not is_permanent(None)

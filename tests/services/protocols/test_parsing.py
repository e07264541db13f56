"""Quoting and decoding of untrusted messages."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.untrusted import ANY_TEXT

from agent.services.protocols.parsing import decode_base64, excerpt
from agent.system.json_text import MAX_MESSAGE_BYTES


@given(ANY_TEXT | st.binary())
def test_excerpt_is_short_printable_and_encodable(message):
    shown = excerpt(message)
    assert len(shown) <= 200
    assert shown.isprintable()
    shown.encode("utf-8")


def test_excerpt_escapes_terminal_control_and_keeps_letters_of_every_language():
    assert excerpt("a\n\x1b[31m\u202eb\u2066\u200b\x00") == "'a\\n\\x1b[31m\\u202eb\\u2066\\u200b\\x00'"
    assert excerpt("für 你好") == "'für 你好'"


def test_excerpt_marks_a_cut_and_never_cuts_an_escape():
    shown = excerpt("\x00" * 1000)
    assert shown.endswith("\\x00'...") and len(shown) <= 200


def test_excerpt_shows_the_length_and_the_first_bytes_of_a_binary_message():
    assert excerpt(b"RIFF") == "<4 bytes: 52 49 46 46>"
    assert excerpt(bytes(1000)) == "<1000 bytes: " + "00 " * 16 + "...>"
    assert excerpt(b"") == "<no bytes>"


@pytest.mark.parametrize("message", ["wrong key SESAME123!", b"SESAME123 no", "x" * 195 + "SESAME123"])
def test_excerpt_hides_an_echoed_key(message):
    shown = excerpt(message, "SESAME123")
    assert "SES" not in shown and b"SESA".hex(" ") not in shown


@given(st.binary())
def test_decode_base64_returns_the_encoded_bytes(data):
    assert decode_base64(base64.b64encode(data).decode()) == data


@given(st.binary())
def test_decode_base64_accepts_lines(data):
    assert decode_base64(base64.encodebytes(data).decode()) == data
    assert decode_base64(f" \t{base64.b64encode(data).decode()}\r\n") == data


@given(ANY_TEXT | st.binary() | st.none() | st.floats() | st.lists(st.text()))
def test_decode_base64_never_raises(value):
    assert isinstance(decode_base64(value), bytes | str)


@pytest.mark.parametrize(
    "value",
    [
        "-_-_",
        "QQ==QQ==",
        "QQ==\nQQ==",
        "QQ\n",
        "QQ==\xa0",
        "QQ==\0",
        "QQ",
        "Q",
        "=",
        "ä",
        "\ud800",
        None,
        1,
        b"QQ==",
        [],
    ],
)
def test_decode_base64_refuses_everything_but_strict_base64(value):
    assert isinstance(decode_base64(value), str)


def test_decode_base64_checks_the_size_first():
    assert decode_base64("A" * (MAX_MESSAGE_BYTES + 4)) == "its audio is bigger than 8 MiB"

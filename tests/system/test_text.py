"""Text: validation before speech, and escapes for logs and terminals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from agent.system.text import MAX_TEXT_CHARACTERS, escape, validate_piece, validate_text


def test_valid_text_is_returned_unchanged() -> None:
    assert validate_text("  Grüße, 世界! ") == "  Grüße, 世界! "
    assert validate_text("x" * MAX_TEXT_CHARACTERS) == "x" * MAX_TEXT_CHARACTERS
    assert validate_piece("") == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nothing to say"),
        (" \n\t", "nothing to say"),
        ("x" * (MAX_TEXT_CHARACTERS + 1), "100001"),
        ("a\udcff", "UTF-8"),
    ],
)
def test_invalid_text_is_refused_with_one_line(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as raised:
        validate_text(text)
    assert "\n" not in str(raised.value)


def test_control_characters_are_removed_except_tabs_and_line_breaks() -> None:
    assert validate_text("a\x00b\x1b[31m\tc\r\nd\x7f\x9be") == "ab[31m\tc\nde"
    assert validate_piece("\x00 one\x07\n") == " one\n"
    with pytest.raises(UsageError, match="nothing to say"):
        validate_text("\x00\x1b\x07")


def test_control_and_invisible_characters_are_escaped() -> None:
    assert escape("a\x1b]0;x\x07b") == "a\\x1b]0;x\\x07b"
    assert escape("one\ntwo\r\tthree") == "one\\ntwo\\r\\tthree"
    assert escape("pay\u202eeno\u2066\u200b\u2028") == "pay\\u202eeno\\u2066\\u200b\\u2028"
    assert escape("\x9b2J\x7f") == "\\x9b2J\\x7f"
    assert escape("\ud800\U000e0001") == "\\ud800\\U000e0001"


def test_printable_text_is_unchanged() -> None:
    for text in ("", "plain", "Grüße, 你好, नमस्ते, 😀", "a \\n b"):
        assert escape(text) == text


def test_long_text_is_cut_with_the_number_of_omitted_characters() -> None:
    assert escape("x" * 12, 10) == "xxxxxxxxxx... (2 more characters)"
    assert escape("x" * 10, 10) == "xxxxxxxxxx"


@given(st.text(st.characters()))
def test_result_is_always_printable(text: str) -> None:
    assert escape(text).isprintable()
    escape(text).encode("utf-8")

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.system.text import escape


def test_what_a_terminal_would_obey_is_written_as_an_escape() -> None:
    assert escape("a\x1b]0;x\x07b") == "a\\x1b]0;x\\x07b"
    assert escape("one\ntwo\r\tthree") == "one\\ntwo\\r\\tthree"
    assert escape("pay\u202eeno\u2066\u200b\u2028") == "pay\\u202eeno\\u2066\\u200b\\u2028"
    assert escape("\x9b2J\x7f") == "\\x9b2J\\x7f"
    assert escape("\ud800\U000e0001") == "\\ud800\\U000e0001"


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    for text in ("", "plain", "Grüße, 你好, नमस्ते, 😀", "a \\n b"):
        assert escape(text) == text


def test_a_long_text_is_cut_and_says_so() -> None:
    assert escape("x" * 12, 10) == "xxxxxxxxxx... (2 more characters)"
    assert escape("x" * 10, 10) == "xxxxxxxxxx"


@given(st.text(st.characters()))
def test_nothing_but_printable_characters_comes_out(text: str) -> None:
    assert escape(text).isprintable()
    escape(text).encode("utf-8")

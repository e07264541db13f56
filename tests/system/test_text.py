"""What may be said, and the sentence about what may not."""

from __future__ import annotations

import pytest

from agent.errors import UsageError
from agent.system.text import MAX_TEXT_CHARACTERS, validate_piece, validate_text


def test_words_pass_as_they_are() -> None:
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
def test_what_cannot_be_said_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        validate_text(text)
    assert "\n" not in str(refused.value)


def test_control_characters_are_taken_out_and_tabs_and_line_ends_stay() -> None:
    """NUL, ESC and their like went from the command line and the control socket to the services as they were."""
    assert validate_text("a\x00b\x1b[31m\tc\r\nd\x7f\x9be") == "ab[31m\tc\nde"
    assert validate_piece("\x00 one\x07\n") == " one\n"
    with pytest.raises(UsageError, match="nothing to say"):
        validate_text("\x00\x1b\x07")

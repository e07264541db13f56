"""What may be said, and the sentence about what may not."""

from __future__ import annotations

import pytest

from agent.errors import UsageError
from agent.system.text import LONGEST_TEXT, checked, encodable


def test_words_pass_as_they_are() -> None:
    assert checked("  Grüße, 世界! ") == "  Grüße, 世界! "
    assert checked("x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    assert encodable("") == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "nothing to say"), (" \n\t", "nothing to say"), ("x" * (LONGEST_TEXT + 1), "100001"), ("a\udcff", "UTF-8")],
)
def test_what_cannot_be_said_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        checked(text)
    assert "\n" not in str(refused.value)


def test_control_characters_are_taken_out_and_tabs_and_line_ends_stay() -> None:
    """NUL, ESC and their like went from the command line and the control socket to the services as they were."""
    assert checked("a\x00b\x1b[31m\tc\r\nd\x7f\x9be") == "ab[31m\tc\nde"
    assert encodable("\x00 one\x07\n") == " one\n"
    with pytest.raises(UsageError, match="nothing to say"):
        checked("\x00\x1b\x07")

"""Splitting text into sentences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from agent.server.tts import sentences


def test_split_returns_sentences() -> None:
    assert list(sentences.split("Hello there. How are you?  Fine!\nNext line")) == [
        "Hello there.", "How are you?", "Fine!", "Next line",
    ]  # fmt: skip
    assert list(sentences.split("Version 3.5 costs 2.99 today.")) == ["Version 3.5 costs 2.99 today."]
    assert list(sentences.split("  \n ")) == []


def test_abbreviations_are_not_split() -> None:
    for text in (
        "Dr. Smith met Mr. J. S. Bach.",
        "The U.S. Open starts at 9 a.m. on Monday.",
        "Am 3. Oktober ist frei.",
    ):
        assert list(sentences.split(text)) == [text]


@given(some.text(), some.integers(min_value=5, max_value=60))
def test_split_loses_only_white_space_and_respects_the_limit(text: str, longest: int) -> None:
    pieces = list(sentences.split(text, longest))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= longest for piece in pieces)


def test_complete_length_counts_complete_sentences() -> None:
    assert sentences.complete_length("First. Second. Thr") == len("First. Second. ")
    assert sentences.complete_length("no end yet.") == 0

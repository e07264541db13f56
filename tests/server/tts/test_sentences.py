"""Splitting text into sentences."""

from __future__ import annotations

import time

import pytest
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


def test_long_sentence_is_split_at_clauses() -> None:
    text = "The quick brown fox, which had slept under the old oak tree since early that morning, suddenly jumped away."
    first, *rest = sentences.clauses(text)
    assert first == "The quick brown fox," and len(rest) == 2
    assert sentences.clauses("I would like to tell you more about it because the weather will be rather cold.") == [
        "I would like to tell you more about it",
        "because the weather will be rather cold.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Yes, a short sentence, with commas, is spoken whole.",
        "A long sentence without anything at which it could be cut stays in one piece for the sake of its melody.",
        "The price of this rather long and beautiful journey is 1,000,000 dollars per person.",
        "",
    ],
)
def test_sentence_without_a_long_clause_stays_whole(text: str) -> None:
    if "1,000" in text:
        assert all("1,000,000" in piece for piece in sentences.clauses(text)[-1:])
    else:
        assert sentences.clauses(text) == [text]


@given(some.text(alphabet=" ,;-and whicbut.", max_size=300))
def test_clauses_lose_only_white_space(text: str) -> None:
    pieces = sentences.clauses(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) >= 8 for piece in pieces[:-1])


def test_complete_length_counts_complete_sentences() -> None:
    assert sentences.complete_length("First. Second. Thr") == len("First. Second. ")
    assert sentences.complete_length("no end yet.") == 0
    assert sentences.complete_length("First. Second. Thr", 7) == len("First. Second. ")
    assert sentences.complete_length("Fine, Dr. Smith", 8) == 0


@pytest.mark.parametrize("run", ["?!", "...", "." * 17, "." * 300, '!")', f"!{')' * 40}"])
def test_run_of_marks_ends_one_sentence(run: str) -> None:
    assert list(sentences.split(f"This is long{run} Next one.")) == [f"This is long{run}", "Next one."]


@pytest.mark.parametrize("part", [".", "…", ".)", ". a", "!  "])
def test_run_time_is_linear(part: str) -> None:
    part_of_it, whole = (_cost(part * (count // len(part))) for count in (5_000, 80_000))
    assert whole < 32 * part_of_it + 0.5


def _cost(text: str) -> float:
    """Return the CPU seconds of this thread."""
    began = time.thread_time()
    assert sentences.complete_length(text) <= len(text)
    assert list(sentences.split(text))
    return time.thread_time() - began

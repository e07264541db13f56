from __future__ import annotations

import logging
import time

import pytest

from agent.pipeline.text.passages import MAX_PASSAGE_CHARACTERS, MAX_WORD_CHARACTERS, PassageSplitter, split_passages


def passages(text: str, size: int) -> list[str]:
    splitter = PassageSplitter()
    found = [one for at in range(0, len(text), size) for one in splitter.feed(text[at : at + size])]
    return [*found, *splitter.flush()]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. 😀\nTwo. --- Three.\n---\n", ["One.", "Two.", "--- Three."]),
        ("😀\n👍", []),
        ("* keep *this* #1 `x`.", ["* keep *this* #1 `x`."]),
    ],
)
def test_passages_without_words_are_dropped(text: str, expected: list[str], size: int) -> None:
    assert passages(text, size) == expected


@pytest.mark.parametrize(("length", "size"), [(1000, 1), (100_000, 999), (100_000, 1 << 20)])
@pytest.mark.parametrize("character", ["a", "ä", "я", "9", "="])
def test_endless_word_is_cut(character: str, length: int, size: int, caplog: pytest.LogCaptureFixture) -> None:
    began = time.thread_time()
    with caplog.at_level(logging.WARNING):
        spoken = passages(f"Before {character * length} after.", size)
    assert spoken == [f"Before {character * MAX_WORD_CHARACTERS} after."]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert time.thread_time() - began < 5


def test_scripts_without_spaces_are_not_cut() -> None:
    for text in ("你好" * 300, "ไทย" * 300, "a,b;" * 300):
        assert "".join(passages(text, 50)).replace(" ", "") == text


def test_complete_text_is_split_into_long_passages() -> None:
    text = "This is a sentence of some words. " * 60
    split = split_passages(text)
    assert all(len(passage) <= MAX_PASSAGE_CHARACTERS for passage in split) and len(split) == 3
    assert " ".join(split) == text.strip()

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.text.sentences import MAX_SENTENCE_CHARACTERS, SentenceSplitter


def cut(text: str, size: int | None = None) -> list[str]:
    sentences = SentenceSplitter()
    size = size or len(text) or 1
    found = [one for start in range(0, len(text), size) for one in sentences.feed(text[start : start + size])]
    return [*found, *sentences.flush()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("Dr. Smith paid 3.14 to J. S. Bach, e.g. in gold.", ["Dr. Smith paid 3.14 to J. S. Bach, e.g. in gold."]),
        ("I said no. Then I left.", ["I said no.", "Then I left."]),
        ("At 3 p.m. we had tea, cake etc. and left.", ["At 3 p.m. we had tea, cake etc. and left."]),
        ("Tea, cake, etc. Then we left.", ["Tea, cake, etc.", "Then we left."]),
        ("Well... perhaps. Well... No.", ["Well... perhaps.", "Well...", "No."]),
        ("1. First\n2. Second", ["1. First", "2. Second"]),
        ('She said "Stop!" Then silence.', ['She said "Stop!"', "Then silence."]),
        ("What?! Really?", ["What?!", "Really?"]),
        ("你好。今天天气很好！“好吗？”好。", ["你好。", "今天天气很好！", "“好吗？”", "好。"]),
        ("नमस्ते। आप कैसे हैं। ठीक।", ["नमस्ते।", "आप कैसे हैं।", "ठीक।"]),
        ("a heading\nand a line", ["a heading", "and a line"]),
        ("one\r\n\r\ntwo", ["one", "two"]),
        ("  \n ", []),
        ("...", ["..."]),
        ("- \n* \nWord", ["- * Word"]),
    ],
)
def test_sentences_do_not_depend_on_the_pieces(text: str, expected: list[str]) -> None:
    assert cut(text) == expected
    assert cut(text, 1) == expected
    assert cut(text, 3) == expected


def test_wrapped_line_continues_and_blank_line_ends_a_sentence() -> None:
    line = "this line is so long that it was probably wrapped by the editor"
    assert cut(f"{line}\nand goes on. Next") == [f"{line} and goes on.", "Next"]
    assert cut(f"{line}\n\nanother", 1) == [line, "another"]


def test_feed_returns_a_sentence_as_soon_as_it_is_complete() -> None:
    sentences = SentenceSplitter()
    assert sentences.feed("It is 3.") == []
    assert sentences.feed("5 degrees.") == []
    assert sentences.feed(" It") == ["It is 3.5 degrees."]
    assert sentences.flush() == ["It"]
    assert sentences.flush() == []


def test_long_sentence_is_cut_at_a_pause_or_a_space() -> None:
    pause = cut("word " * 40 + "pause, " + "word " * 40)
    assert pause[0].endswith("pause,")
    spaces = cut("word " * 200)
    assert all(len(one) <= MAX_SENTENCE_CHARACTERS and set(one.split()) == {"word"} for one in spaces)
    assert [len(one) for one in cut("x" * 700)] == [300, 300, 100]


def test_flush_starts_a_new_text() -> None:
    sentences = SentenceSplitter()
    sentences.feed("J. S. Bach wrote a very, very long")
    sentences.flush()
    assert sentences.feed("Hi. So") == ["Hi."]


@given(st.text(alphabet="aA1 .,!?…\n\"'。।é;:", max_size=700), st.integers(1, 50))
def test_only_white_space_is_lost(text: str, size: int) -> None:
    whole = cut(text)
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert "".join("".join(cut(text, size)).split()) == "".join(text.split())
    assert all(0 < len(one) <= MAX_SENTENCE_CHARACTERS + 2 for one in whole)


@pytest.mark.parametrize("part", ["a", ". ", "A. ", "etc. ", "। ", "\n", " ", "...", '"', "Yes. "])
def test_run_time_is_linear(part: str) -> None:
    for length, size in ((1_000_000, None), (50_000, 1)):
        quarter, whole = (cost(part * (count // len(part)), size) for count in (length // 4, length))
        assert whole < 8 * quarter + 0.5


def cost(text: str, size: int | None) -> float:
    """CPU seconds of this thread."""
    began = time.thread_time()
    cut(text, size)
    return time.thread_time() - began

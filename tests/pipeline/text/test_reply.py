from __future__ import annotations

import re
import time

import pytest

from agent.pipeline.text.passages import PassageSplitter
from agent.pipeline.text.reply import ReplyText
from agent.services.settings import TextSettings


@pytest.mark.parametrize(
    "first",
    [
        "The sky is blue.",
        "**Yes**, it is!",
        "Is it `true`?!",
        "It costs $5.20.",
        "It costs 100.",
        "Write to jane.doe@example.com.",
        "That is [a link](https://example.com).",
        "So it is【1†a】.",
        "Das ist schön.",
        "C'est bien.",
        "मौसम अच्छा है।",
        "天气很好。",
    ],
)
def test_sentence_is_complete_with_the_token_after_it(first: str) -> None:
    reply = ReplyText(TextSettings())
    *tokens, last = [*re.findall(r"\s*\w+|\s*\W", first), " It"]
    assert [sentence for token in tokens for sentence in reply.feed(token)] == []
    assert len(reply.feed(last)) == 1


def test_text_after_a_tag_of_reasoning_is_spoken_without_delay() -> None:
    reply = ReplyText(TextSettings())
    assert reply.feed("<think>Hm. Let me see.</think>Yes. ") == ["Yes."]


def test_markup_may_be_kept() -> None:
    reply = ReplyText(TextSettings(markdown="keep"))
    assert [*reply.feed("<think>no</think>(happy) *Yes* [1]! 😀 `x`\n"), *reply.flush()] == [
        "(happy) *Yes* [1]!",
        "`x`",
    ]


def test_sentence_takes_the_place_of_code() -> None:
    reply = ReplyText(TextSettings(omitted="There is code."))
    assert [*reply.feed("See:\n```\nx = 1\n```\nDone."), *reply.flush()] == ["See:", "There is code.", "Done."]
    assert reply.has_words


def test_long_list_items_stay_apart() -> None:
    items = [f"{word} is an item of a list that has no mark at its end but many words in it" for word in ("One", "Two")]
    reply, passages = ReplyText(TextSettings()), PassageSplitter()
    sentences = [*reply.feed("".join(f"- {item}\n" for item in items)), *reply.flush()]
    assert sentences == items
    assert [passage for sentence in sentences for passage in passages.feed(f"{sentence}\n\n")] == items


@pytest.mark.parametrize(
    ("text", "has_words"), [("```\ncode\n```\n", True), ("<think>no</think>", False), ("👍 --", False)]
)
def test_has_words_tells_text_from_symbols(text: str, has_words: bool) -> None:
    reply = ReplyText(TextSettings())
    assert [*reply.feed(text), *reply.flush()] == []
    assert reply.has_words == has_words


@pytest.mark.parametrize(
    "part", ["*", "~", "[a](", "【1", "<!--", "<b ", "- ", "http://a", "1. ", "A. ", "|a|\n", "😀 "]
)
def test_run_time_is_linear(part: str) -> None:
    for length, size in ((40_000, 40_000), (4_000, 1)):
        quarter, whole = (cost(part * (count // len(part)), size) for count in (length // 4, length))
        assert whole < 8 * quarter + 0.5


@pytest.mark.parametrize(("begin", "part"), [("", "*"), ("", "http:"), ("<think ", "=")])
def test_run_time_of_a_mark_that_never_ends_is_linear(begin: str, part: str) -> None:
    part_of_it, whole = (cost(f"{begin}{part * (count // len(part))} x", count) for count in (5_000, 80_000))
    assert whole < 32 * part_of_it + 0.5


def cost(text: str, size: int) -> float:
    """Return the CPU seconds of this thread."""
    began = time.thread_time()
    reply = ReplyText(TextSettings())
    for at in range(0, len(text), size):
        reply.feed(text[at : at + size])
    reply.flush()
    return time.thread_time() - began

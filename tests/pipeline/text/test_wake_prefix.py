"""The wake word at the start of a transcript."""

from __future__ import annotations

import pytest

from agent.pipeline.text.wake_prefix import WakePrefix


@pytest.mark.parametrize(
    ("text", "word", "rest"),
    [
        ("Alexa, what time is it?", "alexa", "what time is it?"),
        ("Hey, Jarvis, stop.", "hey_jarvis", "stop."),
        ("hey jarvis", "hey_jarvis", ""),
        ("Alexa.", "alexa", ""),
        ("Alexander is here.", "", "Alexander is here."),
        ("Who is Alexa?", "", "Who is Alexa?"),
        ("Hey you.", "", "Hey you."),
        ("", "", ""),
    ],
)
def test_wake_word_is_split_from_the_rest(text: str, word: str, rest: str) -> None:
    assert WakePrefix(["alexa", "hey_jarvis", "_"]).split(text) == (word, rest)

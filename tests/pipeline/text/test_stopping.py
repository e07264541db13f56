"""Texts that consist of stop words."""

from __future__ import annotations

import pytest

from agent.pipeline.text.stopping import DEFAULT_WORDS, StopWords, stop_words


@pytest.mark.parametrize("text", ["Stop.", "stop, stop!", "Be quiet", "¡Cállate!", "Hou op.", "tais toi", "रुको।"])
def test_stop_word_is_found(text: str) -> None:
    assert StopWords(stop_words(["auto"], "auto")).find(text) is not None


@pytest.mark.parametrize(("text", "word"), [("Stop, be quiet!", "stop"), ("Shut up! Stop. Stop!", "shut up")])
def test_first_of_several_stop_words_is_returned(text: str, word: str) -> None:
    assert StopWords(stop_words(["auto"], "en")).find(text) == word


@pytest.mark.parametrize(
    "text", ["", ".", "be stop quiet", "stop, be quick", "bus stop", "don't stop", "stopping", "stop it"]
)
def test_other_text_is_no_stop_word(text: str) -> None:
    assert StopWords(stop_words(["auto"], "en")).find(text) is None


def test_auto_stands_for_the_words_of_the_language() -> None:
    assert stop_words(["auto", "genug", "halt"], "de") == (*DEFAULT_WORDS["de"], "genug")
    assert stop_words([], "de") == ()
    assert {*stop_words(["auto"], "fi")} == {word for words in DEFAULT_WORDS.values() for word in words}

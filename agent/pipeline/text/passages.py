"""Splits text into passages, each of which is sent to the speech service at once."""

from __future__ import annotations

import logging
import re

from agent.pipeline.text.sentences import SentenceSplitter
from agent.pipeline.text.symbols import speakable

log = logging.getLogger(__name__)

MAX_PASSAGE_CHARACTERS = 800
"""Limit for a passage of several sentences. The intonation continues across the sentences of a passage, but the first
audio must wait for the whole first passage."""

MAX_WORD_CHARACTERS = 200
"""A longer word is cut. Such a word is data, such as base64 or a key: to speak it takes minutes and does not help the
user."""

# A run of characters without white space or a punctuation mark. The scripts of East and Southeast Asia are excluded,
# because they have no spaces between words.
_WORD = (
    r"[^\s,;:.!?…–—\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    r"\u3000-\u9fff\uac00-\ud7af\uf900-\uffef\U00020000-\U0003ffff]+"
)
_ASCII_BREAKS = ",;:.!?"


class PassageSplitter:
    """Splits text that arrives in pieces into passages: each sentence is a passage as soon as it is complete.

    Characters that no voice can pronounce are removed. A passage of punctuation marks only is dropped. A word longer
    than ``MAX_WORD_CHARACTERS`` is cut. Not thread-safe; owned by the thread that feeds it.

    Args:
        language: As for ``SentenceSplitter``.
    """

    def __init__(self, language: str = "auto") -> None:
        self._sentences = SentenceSplitter(language)
        self._word_length = 0  # length of the word at the end of the text so far

    def feed(self, piece: str) -> list[str]:
        """Append text; return the passages that it completes."""
        return _speakable(self._sentences.feed(self._cut_words(piece)))

    def flush(self) -> list[str]:
        """Return the last passages, and start with a new text."""
        self._word_length = 0
        return _speakable(self._sentences.flush())

    def _cut_words(self, piece: str) -> str:
        words = piece.split()
        if piece.isascii() and words and self._word_length + max(map(len, words)) <= MAX_WORD_CHARACTERS:
            # A faster way for almost every text: compiling _WORD takes 1.5 ms, which delays the first audio.
            last = "" if piece[-1].isspace() else words[-1]
            length = len(last) - 1 - max(map(last.rfind, _ASCII_BREAKS))
            self._word_length = length + (self._word_length if length == len(piece) else 0)
            return piece
        parts: list[str] = []
        position = 0
        for word in re.finditer(_WORD, piece):
            known = self._word_length if word.start() == 0 else 0
            kept = max(0, MAX_WORD_CHARACTERS - known)
            length = known + len(word[0])
            if length > MAX_WORD_CHARACTERS >= known:
                log.warning("text: long word cut, max_characters=%d", MAX_WORD_CHARACTERS)
            parts += [piece[position : word.start()], word[0][:kept]]
            position = word.end()
            self._word_length = length
        if position < len(piece):
            self._word_length = 0
        return "".join([*parts, piece[position:]])


def split_passages(text: str, language: str = "auto") -> list[str]:
    """Split a complete text into passages of whole sentences, up to ``MAX_PASSAGE_CHARACTERS`` each."""
    passages: list[str] = []
    for sentence in split_sentences(text, language):
        if passages and len(passages[-1]) + 1 + len(sentence) <= MAX_PASSAGE_CHARACTERS:
            passages[-1] = f"{passages[-1]} {sentence}"
        else:
            passages.append(sentence)
    return passages


def split_sentences(text: str, language: str = "auto") -> list[str]:
    """Split a complete text into sentences that a voice can pronounce."""
    splitter = PassageSplitter(language)
    return [*splitter.feed(text), *splitter.flush()]


def _speakable(sentences: list[str]) -> list[str]:
    return [passage for sentence in sentences if (passage := speakable(sentence))]

"""Converts the streamed text of a reply to sentences that a voice can speak."""

from __future__ import annotations

import re

from agent.pipeline.text.markup import MarkupFilter
from agent.pipeline.text.reasoning import ReasoningFilter
from agent.pipeline.text.sentences import SentenceSplitter
from agent.pipeline.text.symbols import speakable
from agent.services.settings import TextSettings
from agent.system.text import has_words, remove_control_characters

_SPACE_BEFORE_MARK = re.compile(r" +([.,])(?= |\Z)")


class ReplyText:
    """Removes hidden reasoning and markup, and splits the rest into speakable sentences.

    Not thread-safe; owned by the responder thread.

    Attributes:
        has_words: Whether the visible text so far contains a word or a number, also one that is not spoken (in a block
            of code).
    """

    def __init__(self, settings: TextSettings) -> None:
        self.has_words = False
        self._reasoning = ReasoningFilter()
        self._markup = MarkupFilter(settings.omitted) if settings.markdown == "strip" else None
        self._sentences = SentenceSplitter(settings.language)

    def feed(self, piece: str) -> list[str]:
        """Append text; return the sentences that it completes."""
        return self._speakable(self._sentences.feed(self._words(self._reasoning.feed(piece))))

    def pause(self) -> list[str]:
        """Return the sentences that are complete if no text follows for some time."""
        held = "" if self._markup is None else self._markup.pause()
        return self._speakable([*self._sentences.feed(held), *self._sentences.pause()])

    def flush(self) -> list[str]:
        """Return the sentences in the rest of the text."""
        words = self._words(self._reasoning.flush())
        if self._markup is not None:
            words += self._markup.flush()
        return self._speakable([*self._sentences.feed(words), *self._sentences.flush()])

    def _words(self, text: str) -> str:
        text = remove_control_characters(text)
        self.has_words = self.has_words or has_words(text)
        return text if self._markup is None else self._markup.feed(text)

    def _speakable(self, sentences: list[str]) -> list[str]:
        if self._markup is not None:
            sentences = [_SPACE_BEFORE_MARK.sub(r"\1", sentence) for sentence in sentences]
        return [spoken for sentence in sentences if (spoken := speakable(sentence))]

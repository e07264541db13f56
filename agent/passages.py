"""Text on its way to a speech service, cut into passages: what is spoken in one breath of the protocol."""

from __future__ import annotations

from agent.sentences import Sentences

LONGEST_PASSAGE = 800
"""Characters. A text that is there as a whole keeps its melody over several sentences, but not without end: the first
sound waits for the first passage."""


class Passages:
    """Pieces of text in, passages out. A text that comes piece by piece gives a passage for every sentence as soon as
    that is complete; a text given as a whole gives passages of whole sentences up to ``LONGEST_PASSAGE`` characters."""

    def __init__(self) -> None:
        self._sentences = Sentences()

    def feed(self, piece: str) -> list[str]:
        return [sentence for sentence in self._sentences.feed(piece) if sentence.strip()]

    def rest(self) -> list[str]:
        """What is left when the text is complete."""
        rest = self._sentences.rest()
        return [rest] if rest.strip() else []

    @classmethod
    def of(cls, text: str) -> list[str]:
        """The passages of a text that is there as a whole."""
        cutter = cls()
        passages: list[str] = []
        for sentence in [*cutter.feed(text), *cutter.rest()]:
            if passages and len(passages[-1]) + 1 + len(sentence) <= LONGEST_PASSAGE:
                passages[-1] = f"{passages[-1].rstrip()} {sentence}"
            else:
                passages.append(sentence)
        return passages

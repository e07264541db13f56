"""The responders that need no one: one repeats what was heard, one says nothing."""

from __future__ import annotations

from agent.pipeline.responders.responder import Pieces, ResponderKind
from agent.pipeline.text_splitter import Sentences


class Echo:
    """Answers with what was heard."""

    def answer(self, text: str, turn: int) -> Pieces:
        sentences = Sentences()
        yield from sentences.feed(text)
        if rest := sentences.rest():
            yield rest

    def close(self) -> None:
        """Nothing is kept between answers."""


class Silence:
    """Never answers."""

    def answer(self, text: str, turn: int) -> Pieces:
        yield from ()

    def close(self) -> None:
        """Nothing is kept between answers."""


RESPONDER = ResponderKind(lambda responder: Echo())
NO_RESPONDER = ResponderKind(lambda responder: Silence())

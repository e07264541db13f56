"""The responders that need no one: one repeats what was heard, one says nothing."""

from __future__ import annotations

from agent.pipeline.responders.responder import ReplyPieces, ResponderKind
from agent.pipeline.text_splitter import SentenceSplitter


class EchoResponder:
    """Answers with what was heard."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        sentences = SentenceSplitter()
        yield from sentences.feed(text)
        if rest := sentences.flush():
            yield rest

    def close(self) -> None:
        """Nothing is kept between answers."""


class SilentResponder:
    """Never answers."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        yield from ()

    def close(self) -> None:
        """Nothing is kept between answers."""


RESPONDER = ResponderKind(lambda responder: EchoResponder())
NO_RESPONDER = ResponderKind(lambda responder: SilentResponder())

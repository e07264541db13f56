"""Two responders without a service: one repeats the transcript, the other never replies."""

from __future__ import annotations

from agent.pipeline.responders.responder import ReplyPieces, ResponderKind, StatelessResponder


class EchoResponder(StatelessResponder):
    """Replies with the transcript. Not thread-safe; owned by the responder thread."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        yield text
        return None


class SilentResponder(StatelessResponder):
    """Never replies. Not thread-safe; owned by the responder thread."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        yield from ()
        return None


RESPONDER = ResponderKind(lambda responder, device: EchoResponder())
NO_RESPONDER = ResponderKind(lambda responder, device: SilentResponder())

"""What is known of one stretch of speech, from its first frame to its transcript."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.audio.format import SPEECH
from agent.audio.frames import FrameQueue
from agent.events import Heard
from agent.protocols.events import Transcript


@dataclass
class Stretch:
    """One stretch of speech, from the first frame to its transcript."""

    frames: FrameQueue
    sent: FrameQueue  # what a new connection would have to be told again
    finals: list[Transcript] = field(default_factory=list)
    kept: list[Transcript] = field(default_factory=list)  # what a lost connection had given, should no other come
    losses: int = 0
    partial: str = ""
    over: bool = False
    ended: bool = False  # the end mark has been given to the connection
    export_id: str | None = None

    def so_far(self) -> str:
        """What has been understood of it, the last partial included."""
        return " ".join(text for text in [*(final.text for final in self.finals), self.partial] if text)

    def unanswered_seconds(self) -> float:
        """How much sound of it nobody will ever transcribe. It is given up with that."""
        frames = [*self.sent.take(self.sent.held), *self.frames.take(self.frames.held)]
        return SPEECH.seconds_of(sum(map(len, frames)))


def heard(finals: list[Transcript], export_id: str | None = None) -> Heard:
    """The finals as one event."""
    return Heard(
        " ".join(final.text for final in finals if final.text),
        tuple(
            (word.word, word.start_seconds, word.end_seconds, word.confidence)
            for final in finals
            for word in final.words
        ),
        export_id,
    )

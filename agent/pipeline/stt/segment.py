"""What is known of one stretch of speech, from its first frame to its transcript."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.audio.format import SPEECH
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import Heard
from agent.services.protocols.codec import Transcript


@dataclass
class SpeechSegment:
    """One stretch of speech, from the first frame to its transcript."""

    frames: FrameQueue
    sent: FrameQueue  # what a new connection would have to be told again
    began_seconds: float = 0.0  # since the microphone was opened
    said_seconds: float = 0.0
    sent_seconds: float = 0.0  # how far it has been sent
    confirmed_seconds: float = 0.0  # up to here the service has answered, or it has been told that it never will
    finals: list[Transcript] = field(default_factory=list)
    kept: list[Transcript] = field(default_factory=list)  # what a lost connection had given, should no other come
    losses: int = 0  # of connections, in a row, without getting any further
    lost_at_seconds: float = 0.0  # how far it had been answered when the last of them was lost
    partial: str = ""
    over: bool = False

    def so_far(self) -> str:
        """What has been understood of it, the last partial included."""
        return " ".join(text for text in [*(final.text for final in self.finals), self.partial] if text)

    @classmethod
    def of(cls, outage_seconds: float, began_seconds: float) -> SpeechSegment:
        return cls(FrameQueue(outage_seconds), FrameQueue(outage_seconds), began_seconds)

    def say(self, frame: bytes) -> None:
        self.frames.put(frame)
        self.said_seconds += seconds_of([frame])

    def next(self) -> bytes | None:
        """The next frame to be sent; it is kept, in case it has to be sent again. ``None`` where none waits."""
        frames = self.frames.take(1)
        if not frames:
            return None
        self.sent.put(frames[0])
        self.sent_seconds = self.said_seconds - self.frames.buffered_seconds
        return frames[0]

    def lose(self) -> None:
        """A connection was lost. Only what need not be sent again is progress: words alone come again and again."""
        self.losses = self.losses + 1 if self.confirmed_seconds <= self.lost_at_seconds else 1
        self.lost_at_seconds = self.confirmed_seconds

    def keep(self) -> None:
        """What the connection at hand has understood is kept, should no other come. It begins from the start each time,
        so of two the longer one got further."""
        understood = [*self.finals, *([Transcript(self.partial, is_final=True)] if self.partial else [])]
        self.kept = max(self.kept, understood, key=lambda finals: sum(len(final.text) for final in finals))
        self.finals, self.partial = [], ""

    def kept_from(self) -> float:
        """Where what would be sent again begins, in seconds since the beginning of the stretch."""
        return self.sent_seconds - self.sent.buffered_seconds

    def answered(self, until: float) -> None:
        """What ends before ``until``, in seconds since the beginning of the stretch, need not be sent again."""
        start = self.kept_from()
        self.confirmed_seconds = max(self.confirmed_seconds, until)
        while frames := self.sent.take(1):
            start += seconds_of(frames)
            if start > self.confirmed_seconds + 1e-6:
                self._put_back(frames[0])
                break

    def again(self) -> list[bytes]:
        """What a new connection has to be told first, because the lost one never answered it."""
        frames = self.sent.take(self.sent.frame_count)
        for frame in frames:
            self.sent.put(frame)
        return frames

    def _put_back(self, frame: bytes) -> None:
        frames = [frame, *self.sent.take(self.sent.frame_count)]
        for each in frames:
            self.sent.put(each)

    def dropped_frames(self) -> tuple[float, float] | None:
        """What will never be sent, because there was no room to keep it: where it began, in seconds since the
        microphone was opened, and how many seconds it was."""
        lost = self.frames.take_gap()
        return None if lost is None else (self.began_seconds + lost[0], lost[1])

    def missing(self) -> tuple[float, float] | None:
        """The same for what had been sent to a connection that was lost, and cannot be sent again."""
        kept_from = self.kept_from()
        start, self.confirmed_seconds = self.confirmed_seconds, max(self.confirmed_seconds, kept_from)
        return (self.began_seconds + start, kept_from - start) if kept_from > start + 1e-6 else None

    def given_up(self) -> list[tuple[float, float]]:
        """The same for all that nobody will ever transcribe, piece by piece. It is forgotten with that."""
        gaps = [gap for gap in (self.dropped_frames(), self.missing()) if gap is not None]
        seconds = seconds_of([*self.sent.take(self.sent.frame_count), *self.frames.take(self.frames.frame_count)])
        return [*gaps, (self.began_seconds + self.said_seconds - seconds, seconds)] if seconds else gaps

    def outdated(self, *, answering: bool) -> list[tuple[float, float]]:
        """The same for all that waits, which is too old to be sent. ``answering``: what has been sent may still be
        answered; it is not kept to be sent again."""
        if answering:
            self.sent.take(self.sent.frame_count)
            seconds = seconds_of(self.frames.take(self.frames.frame_count))
            gaps = [(self.began_seconds + self.said_seconds - seconds, seconds)] if seconds else []
        else:
            gaps, self.confirmed_seconds = self.given_up(), self.said_seconds
        self.sent_seconds = self.said_seconds
        return gaps


def seconds_of(frames: Iterable[bytes]) -> float:
    """How long frames of 16 kHz mono s16le last, together."""
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

"""A speaker in a room: the real thread on a real ring, and everything it reported, in order."""

from __future__ import annotations

import queue
import random
from array import array
from collections.abc import Callable
from types import TracebackType

from agent.audio.devices.device import Sink
from agent.audio.devices.file import PacedSink
from agent.audio.format import Format
from agent.pipeline.events import Event, PlaybackStarted, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0
PERIOD_SECONDS = 0.02
End = UtterancePlayed | UtteranceCancelled | UtteranceFailed


class Card(PacedSink):
    """A card in memory: ``heard`` is what has come out of it, with the silence that was written but no pauses."""

    def __init__(self, format: Format, heard: bytearray, buffer_seconds: float = 0.1) -> None:
        super().__init__(format, buffer_seconds)
        self._record = heard

    def _hear(self) -> None:
        before = bytes(self._held)
        super()._hear()
        self._record += before[: len(before) - len(self._held)]


class Room:
    """``with Room(format) as room``: a speaker that plays on a ``Card``, or on what ``open_sink`` opens."""

    def __init__(self, format: Format, open_sink: Callable[[Format], Sink] | None = None, **settings: object) -> None:
        self.format = format
        self.heard = bytearray()
        self.ring = RingBuffer(1 << 22)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.speaker = Speaker(
            self.ring,
            open_sink or (lambda wanted: Card(wanted, self.heard)),
            self.events.put,
            period_seconds=PERIOD_SECONDS,
            **settings,  # type: ignore[arg-type]
        )
        self._count = 0

    def __enter__(self) -> Room:
        self.speaker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.speaker.abort()
        self.ring.close()
        ended = self.speaker.join(Deadline(TIMEOUT_SECONDS))
        if kind is None:
            assert ended, "the speaker did not end with its ring"

    def begin(self) -> int:
        self._count += 1
        return self.ring.begin(self.last, self.format)

    @property
    def last(self) -> str:
        """The id of the utterance that was begun last."""
        return f"utterance {self._count}"

    def say(self, pcm: bytes, error: str | None = None) -> int:
        """A whole utterance at once."""
        with self.ring._changed:  # however slow this thread is, the speaker sees nothing of it before its end
            stream_id = self.begin()
            self.rest(stream_id, pcm, error)
        return stream_id

    def rest(self, stream_id: int, pcm: bytes, error: str | None = None) -> None:
        """The rest of an utterance and its end at once."""
        with self.ring._changed:
            self.ring.write(stream_id, pcm)
            self.ring.end(stream_id, error)

    def began(self) -> PlaybackStarted:
        event = self.event()
        assert isinstance(event, PlaybackStarted), event
        return event

    def event(self) -> Event:
        return self.events.get(timeout=TIMEOUT_SECONDS)

    def end(self) -> End:
        """How the next utterance ended."""
        while not isinstance(event := self.event(), End):
            assert isinstance(event, PlaybackStarted), event
        return event


def noise(format: Format, seconds: float, seed: int = 1) -> bytes:
    """No sample of it is silence."""
    made = random.Random(seed)
    count = round(seconds * format.rate) * format.channels
    return array("h", [made.choice((-1, 1)) * made.randint(1000, 20000) for _ in range(count)]).tobytes()


def steady(format: Format, seconds: float) -> bytes:
    return array("h", [10000] * (round(seconds * format.rate) * format.channels)).tobytes()

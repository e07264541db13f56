"""A running speaker thread on a real ring buffer, with a sink in memory and the reported events in order."""

from __future__ import annotations

import queue
import random
import threading
from array import array
from collections.abc import Callable
from types import TracebackType

from agent.audio.devices.device import Sink
from agent.audio.devices.file import PacedSink
from agent.audio.format import Format
from agent.pipeline.events import (
    Event,
    PlaybackStarted,
    Underruns,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import DEFAULT_PLAYOUT, Playout, RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0
PERIOD_SECONDS = 0.02
BUFFER_SECONDS = 0.1
End = UtterancePlayed | UtteranceCancelled | UtteranceFailed


class SpeakerHarness:
    """``with SpeakerHarness(format) as harness``: plays in real time into ``heard``, or on the sink of ``open_sink``.

    ``heard`` includes inserted silence, but no pauses.
    """

    def __init__(self, format: Format, open_sink: Callable[[Format], Sink] | None = None, **settings: object) -> None:
        self.format = format
        self.heard = bytearray()
        self._ring_changed = threading.Condition()
        self.ring = RingBuffer(1 << 22, self._ring_changed)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.speaker = Speaker(
            self.ring,
            open_sink or (lambda wanted: PacedSink(wanted, BUFFER_SECONDS, on_played=self.heard.extend)),
            self.events.put,
            period_seconds=PERIOD_SECONDS,
            **settings,  # type: ignore[arg-type]
        )
        self.underruns = 0
        self.silence_seconds = 0.0  # that the speaker inserted in underruns
        self._count = 0

    def __enter__(self) -> SpeakerHarness:
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

    def begin(self, playout: Playout = DEFAULT_PLAYOUT) -> int:
        self._count += 1
        return self.ring.begin(self.last, self.format, playout)

    @property
    def last(self) -> str:
        """The id of the latest utterance."""
        return f"utterance {self._count}"

    def say(self, pcm: bytes, error: str | None = None, playout: Playout = DEFAULT_PLAYOUT) -> int:
        """Write a complete utterance at once."""
        with self._ring_changed:  # the speaker sees nothing of it before its end, even if this thread is slow
            stream_id = self.begin(playout)
            self.finish(stream_id, pcm, error)
        return stream_id

    def finish(self, stream_id: int, pcm: bytes, error: str | None = None) -> None:
        """Write the rest of an utterance and its end at once."""
        with self._ring_changed:
            self.ring.write(stream_id, pcm)
            self.ring.end(stream_id, error)

    def wait_started(self) -> PlaybackStarted:
        event = self.event()
        assert isinstance(event, PlaybackStarted), event
        return event

    def event(self) -> Event:
        return self.events.get(timeout=TIMEOUT_SECONDS)

    def end(self) -> End:
        """Wait for the end of the next utterance."""
        while not isinstance(event := self.event(), End):
            assert isinstance(event, PlaybackStarted | Underruns), event
            if isinstance(event, Underruns):
                self.underruns += event.times
                self.silence_seconds += event.silence_seconds
        return event


def noise(format: Format, seconds: float, seed: int = 1) -> bytes:
    """Return noise without a zero sample."""
    source = random.Random(seed)
    count = round(seconds * format.rate) * format.channels
    return array("h", [source.choice((-1, 1)) * source.randint(1000, 20000) for _ in range(count)]).tobytes()


def steady(format: Format, seconds: float) -> bytes:
    return array("h", [10000] * (round(seconds * format.rate) * format.channels)).tobytes()

"""Synthesizer and speaker threads on a real local server, with a sink in memory."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from agent.audio.devices.device import Sink
from agent.audio.devices.file import PacedSink
from agent.audio.format import Format
from agent.daemon.speech_builder import make_synthesizer
from agent.pipeline.events import Event, Underruns, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.ring_buffer import DEFAULT_PLAYOUT, Playout, RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.pipeline.utterance import Utterance
from agent.services.protocols import local
from agent.services.settings import SynthesisSettings
from agent.settings.model import Config
from agent.system.threads import Deadline
from support.speaker_harness import BUFFER_SECONDS, PERIOD_SECONDS, TIMEOUT_SECONDS, End


class SpeechHarness:
    """``with SpeechHarness(port) as harness``: speaks with the local server at ``port``.

    ``heard``: the played audio; ``ends``: the end of each utterance; ``moments``: the time of the first event of each
    kind, by utterance and name of the event.
    """

    def __init__(self, port: int, *, open_sink: Callable[[Format], Sink] | None = None, **settings: Any) -> None:
        sections = {"local": local.Settings(url=f"ws://127.0.0.1:{port}")}
        config = Config(synthesis=SynthesisSettings(services=("local",), sections=sections))
        self.heard = bytearray()
        self.ring = _RecordingRing(1 << 24)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.synthesizer = make_synthesizer(config, self.ring, self.events.put, None, can_suspend=True)
        self.speaker = Speaker(
            self.ring,
            open_sink or (lambda wanted: PacedSink(wanted, BUFFER_SECONDS, on_played=self.heard.extend)),
            self.events.put,
            period_seconds=PERIOD_SECONDS,
            **settings,
        )
        self._ids = (f"utterance {number}" for number in itertools.count(1))
        self.ends: dict[str, End] = {}
        self._underruns: dict[str, Underruns] = {}
        self.moments: dict[tuple[str, str], float] = {}

    @property
    def arrivals(self) -> dict[str, list[tuple[float, int]]]:
        """Monotonic time and bytes of each write to the ring, by utterance."""
        return self.ring.writes

    def __enter__(self) -> SpeechHarness:
        self.speaker.start()
        self.synthesizer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.synthesizer.stop()
        else:
            self.synthesizer.abort()
            self.speaker.abort()
        assert self.synthesizer.join(Deadline(TIMEOUT_SECONDS))
        assert self.speaker.join(Deadline(TIMEOUT_SECONDS))

    def begin(self, text: str | None) -> str:
        utterance = next(self._ids)
        self.synthesizer.begin(Utterance(utterance, text))
        return utterance

    def next_event(self, seconds: float = TIMEOUT_SECONDS) -> Event:
        """Return the next event; an utterance that ends twice is an error."""
        event = self.events.get(timeout=seconds)
        utterance = getattr(event, "utterance", None)
        if isinstance(utterance, str):
            self.moments.setdefault((utterance, type(event).__name__), time.monotonic())
        if isinstance(event, Underruns):
            self._underruns[event.utterance] = event
        if isinstance(event, UtterancePlayed | UtteranceCancelled | UtteranceFailed):
            assert event.utterance not in self.ends, f"{event} after {self.ends[event.utterance]}"
            self.ends[event.utterance] = event
        return event

    def forget(self, utterance: str) -> None:
        """Discard all data of an utterance."""
        self.ends.pop(utterance, None)
        self._underruns.pop(utterance, None)
        self.ring.writes.pop(utterance, None)
        self.ring.names.clear()
        for key in [key for key in self.moments if key[0] == utterance]:
            del self.moments[key]

    def underruns(self, utterance: str) -> Underruns:
        """Return the underruns of an utterance that has ended."""
        return self._underruns.get(utterance, Underruns(utterance, 0, 0.0))

    def end(self, utterance: str) -> End:
        """Wait for the end of an utterance."""
        deadline = Deadline(TIMEOUT_SECONDS)
        while utterance not in self.ends:
            self.next_event(deadline.remaining() or 0.001)
        return self.ends[utterance]


class _RecordingRing(RingBuffer):
    """A ring that records all its writes."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.writes: dict[str, list[tuple[float, int]]] = {}
        self.names: dict[int, str] = {}

    def begin(self, utterance: str, format: Format, playout: Playout = DEFAULT_PLAYOUT) -> int:
        stream_id = super().begin(utterance, format, playout)
        self.names[stream_id] = utterance
        self.writes[utterance] = []
        return stream_id

    def write(self, stream_id: int, data: bytes, arrived_at: float | None = None) -> bool:
        accepted = super().write(stream_id, data, arrived_at)
        # Recorded after the write: a thread that is suspended here delays both, not only the audio.
        self.writes[self.names[stream_id]].append((time.monotonic(), len(data)))
        return accepted

"""Synthesizer and speaker as the daemon has them, in front of a real server; the card is in memory."""

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
from agent.daemon.builder import make_synthesizer
from agent.pipeline.events import Event, Utterance, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.services.protocols import local
from agent.services.settings import SynthesisSettings
from agent.settings.model import Config
from agent.system.threads import Deadline
from support.room import BUFFER_SECONDS, PERIOD_SECONDS, TIMEOUT_SECONDS, End


class Stage:
    """``with Stage(port) as stage``: a local server at ``port`` speaks. ``heard`` is what came out of the card,
    ``arrivals`` when how many bytes of each utterance reached the ring."""

    def __init__(self, port: int, *, open_sink: Callable[[Format], Sink] | None = None, **settings: Any) -> None:
        sections = {"local": local.Settings(url=f"ws://127.0.0.1:{port}")}
        config = Config(synthesis=SynthesisSettings(services=("local",), sections=sections))
        self.heard = bytearray()
        self.ring = _Marked(1 << 24)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.synthesizer = make_synthesizer(config, self.ring, self.events.put, None)
        self.speaker = Speaker(
            self.ring,
            open_sink or (lambda wanted: PacedSink(wanted, BUFFER_SECONDS, on_played=self.heard.extend)),
            self.events.put,
            period_seconds=PERIOD_SECONDS,
            **settings,
        )
        self._ids = (f"utterance {number}" for number in itertools.count(1))
        self.ends: dict[str, End] = {}
        self.moments: dict[tuple[str, str], float] = {}  # of the events of each utterance, by their kind

    @property
    def arrivals(self) -> dict[str, list[tuple[float, int]]]:
        return self.ring.marks

    def __enter__(self) -> Stage:
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

    def begin(self, text: str) -> str:
        utterance = next(self._ids)
        self.synthesizer.begin(Utterance(utterance, text))
        return utterance

    def take(self, seconds: float = TIMEOUT_SECONDS) -> Event:
        """The next thing that was reported. An utterance that ends twice fails here."""
        event = self.events.get(timeout=seconds)
        utterance = getattr(event, "utterance", None)
        if isinstance(utterance, str):
            self.moments.setdefault((utterance, type(event).__name__), time.monotonic())
        if isinstance(event, UtterancePlayed | UtteranceCancelled | UtteranceFailed):
            assert event.utterance not in self.ends, f"{event} after {self.ends[event.utterance]}"
            self.ends[event.utterance] = event
        return event

    def forget(self, utterance: str) -> None:
        """What is known of it is not wanted any more."""
        self.ends.pop(utterance, None)
        self.ring.marks.pop(utterance, None)
        self.ring.names.clear()
        for key in [key for key in self.moments if key[0] == utterance]:
            del self.moments[key]

    def end(self, utterance: str) -> End:
        """How that utterance ended."""
        deadline = Deadline(TIMEOUT_SECONDS)
        while utterance not in self.ends:
            self.take(deadline.remaining() or 0.001)
        return self.ends[utterance]


class _Marked(RingBuffer):
    """A ring that keeps for good when what came into it."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.marks: dict[str, list[tuple[float, int]]] = {}
        self.names: dict[int, str] = {}

    def begin(self, utterance: str, format: Format) -> int:
        stream_id = super().begin(utterance, format)
        self.names[stream_id] = utterance
        self.marks[utterance] = []
        return stream_id

    def write(self, stream_id: int, data: bytes) -> bool:
        taken = super().write(stream_id, data)
        # After it: a thread that stands still here makes it late, as it is; before, only the mark would be in time.
        self.marks[self.names[stream_id]].append((time.monotonic(), len(data)))
        return taken

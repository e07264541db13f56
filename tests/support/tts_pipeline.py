"""The synthesizer thread with real connections to scripted services and a reader of the ring."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.audio.devices.device import open_sink
from agent.daemon.connection_builder import CLOSE_TIMING, STANDBY_TIMING
from agent.pipeline.events import (
    Event,
    PlaybackStarted,
    ServiceDown,
    ServiceUp,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import Playout, RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.playback.speaker import Speaker
from agent.pipeline.stage import make_standby
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.pipeline.utterance import Utterance
from agent.services.connection.websocket import Connection, ConnectionTiming
from agent.services.service import SpeechService
from agent.services.settings import SynthesisSettings
from agent.system.threads import Backoff, Deadline

TIMEOUT_SECONDS = 30.0
Open = Callable[[Deadline], Connection]


class Inbox:
    """The reported events in order. Thread-safe."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def put(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, met: Callable[[], bool], seconds: float = TIMEOUT_SECONDS) -> None:
        with self._changed:
            assert self._changed.wait_for(met, seconds), self.events

    def of(self, *kinds: type) -> list[Any]:
        with self._changed:
            return [event for event in self.events if isinstance(event, kinds)]


class RingReader(threading.Thread):
    """Reads the ring at full speed and keeps the audio and the playout of each utterance.

    ``heard`` and ``playouts`` are owned by this thread; read them after the utterance has ended.
    """

    def __init__(self, ring: RingBuffer, report: Callable[[Event], None]) -> None:
        super().__init__(name="ring reader")
        self._ring, self._report = ring, report
        self.heard: dict[str, bytes] = {}
        self.playouts: dict[str, Playout] = {}

    def run(self) -> None:
        utterance, bytes_of_second = "", 1
        while not isinstance(item := self._ring.read(4096, 1.0), RingClosed):
            if isinstance(item, UtteranceStart):
                utterance, bytes_of_second = item.utterance, item.format.bytes_of(1.0)
                self.heard[utterance], self.playouts[utterance] = b"", item.playout
                self._report(PlaybackStarted(utterance))
            elif isinstance(item, bytes):
                self.heard[utterance] += item
            elif isinstance(item, UtteranceEnd):
                seconds = len(self.heard[utterance]) / bytes_of_second
                if item.drop_reason is not None:
                    self._report(UtteranceCancelled(utterance, item.drop_reason, seconds))
                elif item.error is not None:
                    self._report(UtteranceFailed(utterance, item.error, seconds))
                else:
                    self._report(UtterancePlayed(utterance, seconds))


class SpeakerReader:
    """The real speaker thread on a device of that name, in place of ``RingReader``. Not thread-safe."""

    def __init__(self, pipeline: TtsPipeline, device: str) -> None:
        self.heard: dict[str, bytes] = {}
        self._speaker = Speaker(pipeline.ring, lambda format: open_sink(device, format, 0.02, 0.1), pipeline.inbox.put)
        self.start = self._speaker.start

    def join(self, seconds: float) -> None:
        assert self._speaker.join(Deadline(seconds))


class TtsPipeline:
    """``with TtsPipeline(config) as pipeline``: a running synthesizer and a reader of its ring. Not thread-safe.

    The exit asserts that each utterance ended in exactly one state, in order, and that no thread is left.

    Args:
        opens: Functions that open connections, by service, in place of ``config``.
        connection: Timing of the connections of the first service, as for ``ConnectionTiming``.
        sink: Device for the real speaker; ``None`` reads the ring at full speed.
        timing: As for ``Timing`` of the standby connections.
    """

    def __init__(
        self,
        config: SynthesisSettings | None = None,
        *,
        opens: dict[str, Open] | None = None,
        connection: dict[str, Any] | None = None,
        first_audio_seconds: float = 10.0,
        sink: str | None = None,
        eager: bool = True,
        **timing: float,
    ) -> None:
        self._threads = set(threading.enumerate())
        self.inbox = Inbox()
        self.ring = RingBuffer(1 << 22)
        self.reader: RingReader | SpeakerReader = (
            RingReader(self.ring, self.inbox.put) if sink is None else SpeakerReader(self, sink)
        )
        opens = dict(opens or {})
        for name in config.services if config is not None else ():
            timing_of_first = ConnectionTiming(**connection) if connection and not opens else None
            opens[name] = SpeechService(name, config, _no_local_url, timing=timing_of_first).open
        self.standbys = [
            make_standby(
                name,
                open,
                self.inbox.put,
                eager=eager,
                backoff=Backoff(0.01, 0.02),
                timing=STANDBY_TIMING._replace(**timing),
            )
            for name, open in opens.items()
        ]
        self.synthesizer = Synthesizer(
            self.ring,
            list(self.standbys),
            self.inbox.put,
            first_audio_seconds=first_audio_seconds,
            close_timing=CLOSE_TIMING,
        )
        self._count = itertools.count(1)
        self.utterances: list[str] = []

    def __enter__(self) -> TtsPipeline:
        self.reader.start()
        self.synthesizer.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.synthesizer.stop() if kind is None else self.synthesizer.abort()
        ended = self.synthesizer.join(Deadline(TIMEOUT_SECONDS))
        if kind is not None:
            self.ring.close()
            self.ring.clear("the test failed")
        self.reader.join(TIMEOUT_SECONDS)
        if kind is not None:
            return
        assert ended, "the synthesizer did not end"
        self.forget()
        deadline = Deadline(TIMEOUT_SECONDS)
        for thread in set(threading.enumerate()) - self._threads:
            if thread.name.startswith(("dial ", "scripted", "proxy", "resolver")):
                continue  # these have an owner, or an end, of their own
            thread.join(deadline.remaining())
            assert not thread.is_alive(), thread.name

    def forget(self) -> None:
        """Assert that each utterance so far has ended in one state, in order, and discard them."""
        ends = self.inbox.of(UtterancePlayed, UtteranceCancelled, UtteranceFailed)
        assert [end.utterance for end in ends] == self.utterances, "each utterance ends in one state, in order"
        self.inbox.events.clear()
        self.utterances.clear()
        self.reader.heard.clear()

    def say(self, text: str | None) -> str:
        utterance = f"u{next(self._count)}"
        self.utterances.append(utterance)
        self.synthesizer.begin(Utterance(utterance, text))
        return utterance

    def ended(self, utterance: str, seconds: float = TIMEOUT_SECONDS) -> Any:
        """Wait for the end of an utterance; return its final event."""
        kinds = UtterancePlayed | UtteranceCancelled | UtteranceFailed
        ends: list[Any] = []

        def met() -> bool:
            ends[:] = [e for e in self.inbox.events if isinstance(e, kinds) and e.utterance == utterance]
            return bool(ends)

        self.inbox.until(met, seconds)
        return ends[0]

    def spoken(self, text: str) -> bytes:
        """Speak a text to its end; return the audio."""
        utterance = self.say(text)
        end = self.ended(utterance)
        assert isinstance(end, UtterancePlayed), end
        return self.heard(utterance)

    def failed(self, text: str) -> UtteranceFailed:
        end = self.ended(self.say(text))
        assert isinstance(end, UtteranceFailed), end
        return end

    def speak_until_played(self, text: str, within_seconds: float = TIMEOUT_SECONDS) -> float:
        """Speak a text until it is played; return the seconds that it took. The backoff is at most 20 ms here."""
        began, deadline = time.monotonic(), Deadline(within_seconds)
        while True:
            utterance = self.say(text)
            if isinstance(self.ended(utterance), UtterancePlayed):
                return time.monotonic() - began
            assert not deadline.is_expired, self.inbox.events

    def heard(self, utterance: str) -> bytes:
        return self.reader.heard.get(utterance, b"")

    @property
    def downs(self) -> list[ServiceDown]:
        return self.inbox.of(ServiceDown)

    @property
    def ups(self) -> list[ServiceUp]:
        return self.inbox.of(ServiceUp)


def _no_local_url(deadline: Deadline) -> str:
    raise AssertionError("this test has no local server")

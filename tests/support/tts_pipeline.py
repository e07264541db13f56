"""The synthesizer with real connections to scripted services, and somebody who hears all that reaches the ring."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.audio.devices.device import open_sink
from agent.pipeline.events import (
    Event,
    PlaybackStarted,
    ServiceDown,
    ServiceUp,
    Utterance,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.playback.speaker import Speaker
from agent.pipeline.stage import make_standby
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.services.connection.standby import Timing
from agent.services.connection.websocket import Connection
from agent.services.service import SpeechService
from agent.services.settings import SynthesisSettings
from agent.system.threads import Backoff, Deadline

TIMEOUT_SECONDS = 30.0
Open = Callable[[Deadline], Connection]


class Inbox:
    """What was reported, in order, and a way to wait for it."""

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
    """Plays the ring as fast as it comes and keeps what was heard of each utterance."""

    def __init__(self, ring: RingBuffer, report: Callable[[Event], None]) -> None:
        super().__init__(name="ear")
        self._ring, self._report = ring, report
        self.heard: dict[str, bytes] = {}

    def run(self) -> None:
        utterance, bytes_of_second = "", 1
        while not isinstance(item := self._ring.read(4096, 1.0), RingClosed):
            if isinstance(item, UtteranceStart):
                utterance, bytes_of_second = item.utterance, item.format.bytes_of(1.0)
                self.heard[utterance] = b""
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
    """The real speaker in place of the ear, in real time on a device of that name."""

    def __init__(self, pipeline: TtsPipeline, device: str) -> None:
        self.heard: dict[str, bytes] = {}
        self._speaker = Speaker(pipeline.ring, lambda format: open_sink(device, format, 0.02, 0.1), pipeline.inbox.put)
        self.start = self._speaker.start

    def join(self, seconds: float) -> None:
        assert self._speaker.join(Deadline(seconds))


class TtsPipeline:
    """``with Speaking(config) as speaking``: what is said ends in exactly one state, in order; leaving asserts it, and
    that no thread is left."""

    def __init__(
        self,
        config: SynthesisSettings | None = None,
        *,
        opens: dict[str, Open] | None = None,
        first_audio_seconds: float = 10.0,
        sink: str | None = None,
        eager: bool = True,
        **timing: float,
    ) -> None:
        self._threads = set(threading.enumerate())
        self.inbox = Inbox()
        self.ring = RingBuffer(1 << 22)
        self.ear: RingReader | SpeakerReader = (
            RingReader(self.ring, self.inbox.put) if sink is None else SpeakerReader(self, sink)
        )
        ways: dict[str, Open] = opens or {}
        if config is not None:
            ways = {name: SpeechService(name, config, _nowhere).open for name in config.services}
        self.standbys = [
            make_standby(
                name,
                way,
                self.inbox.put,
                eager=eager,
                backoff=Backoff(0.01, 0.02, seed=1),
                timing=Timing(**timing),
            )
            for name, way in ways.items()
        ]
        self.synthesizer = Synthesizer(
            self.ring, list(self.standbys), self.inbox.put, first_audio_seconds=first_audio_seconds
        )
        self._count = itertools.count(1)
        self.said: list[str] = []

    def __enter__(self) -> TtsPipeline:
        self.ear.start()
        self.synthesizer.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.synthesizer.stop() if kind is None else self.synthesizer.abort()
        ended = self.synthesizer.join(Deadline(TIMEOUT_SECONDS))
        if kind is not None:
            self.ring.close()
            self.ring.clear("the test failed")
        self.ear.join(TIMEOUT_SECONDS)
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
        """Asserts the promise for what has been said so far, all of which has ended, and keeps nothing of it."""
        ends = self.inbox.of(UtterancePlayed, UtteranceCancelled, UtteranceFailed)
        assert [end.utterance for end in ends] == self.said, "each utterance ends in one state, in order"
        self.inbox.events.clear()
        self.said.clear()
        self.ear.heard.clear()

    def say(self, text: str | None) -> str:
        utterance = f"u{next(self._count)}"
        self.said.append(utterance)
        self.synthesizer.begin(Utterance(utterance, text))
        return utterance

    def ended(self, utterance: str, seconds: float = TIMEOUT_SECONDS) -> Any:
        """How it ended: ``Spoken``, ``UtteranceCancelled`` or ``Unspoken``."""
        found: list[Any] = []

        def met() -> bool:
            ends = UtterancePlayed | UtteranceCancelled | UtteranceFailed
            found[:] = [e for e in self.inbox.events if isinstance(e, ends) and e.utterance == utterance]
            return bool(found)

        self.inbox.until(met, seconds)
        return found[0]

    def spoken(self, text: str) -> bytes:
        """Says it to its end; what was heard."""
        utterance = self.say(text)
        end = self.ended(utterance)
        assert isinstance(end, UtterancePlayed), end
        return self.heard(utterance)

    def failed(self, text: str) -> UtteranceFailed:
        end = self.ended(self.say(text))
        assert isinstance(end, UtteranceFailed), end
        return end

    def speak_until_played(self, text: str, within_seconds: float = TIMEOUT_SECONDS) -> float:
        """After how many seconds it could be said again: the back-off in force is next to nothing here."""
        began, deadline = time.monotonic(), Deadline(within_seconds)
        while True:
            utterance = self.say(text)
            if isinstance(self.ended(utterance), UtterancePlayed):
                return time.monotonic() - began
            assert not deadline.is_expired, self.inbox.events

    def heard(self, utterance: str) -> bytes:
        return self.ear.heard.get(utterance, b"")

    @property
    def downs(self) -> list[ServiceDown]:
        return self.inbox.of(ServiceDown)

    @property
    def ups(self) -> list[ServiceUp]:
        return self.inbox.of(ServiceUp)


def _nowhere(deadline: Deadline) -> str:
    raise AssertionError("no local server belongs to this test")

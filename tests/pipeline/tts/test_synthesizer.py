"""The synthesizer with scripted speech services: every utterance ends in exactly one event."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, repeat

import pytest
from support.gathered import Gathered
from support.scripted import TEXT, Peer, Scripted, close_frame, deaf, frame, mute, refuses, silent
from support.voices import RATE, Voice, audio, falls_silent, hangs_up, refuses_the_text, resets, sound, standby

from agent.audio.format import Format
from agent.daemon.connection_builder import CLOSE_TIMING
from agent.daemon.shutdown import STAGE_ABORT_SECONDS
from agent.pipeline.events import (
    AudioArrived,
    Event,
    PlayedText,
    ServiceDown,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import Playout, RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.service_stage import CloseTiming
from agent.pipeline.text.passages import split_passages
from agent.pipeline.tts.chime import chime_pcm, filler_sound, wake_sound
from agent.pipeline.tts.synthesizer import NOT_SUSPENDED, Synthesizer
from agent.pipeline.utterance import TIMER, Delivery, Utterance
from agent.services.connection.poll import Pollable, Poller
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import DEFAULT_TIMING
from agent.system.threads import Deadline, HasFileno

TIMEOUT_SECONDS = 60.0
LIMIT_SECONDS = 3.0
"""Limit for the first audio in tests that wait for it; a service on a busy machine still answers in time."""


class Player(threading.Thread):
    """Reads the ring without a sound card and reports how each utterance ended."""

    def __init__(self, ring: RingBuffer, report: Callable[[Event], None]) -> None:
        super().__init__(name="player")
        self.heard: dict[str, bytes] = {}
        self.permitted = threading.Event()
        self.permitted.set()
        self._ring, self._report = ring, report

    def run(self) -> None:
        utterance = ""
        while not isinstance(item := self._ring.read(4096, 0.05), RingClosed):
            self.permitted.wait(TIMEOUT_SECONDS)
            if isinstance(item, UtteranceStart):
                utterance = item.utterance
                self.heard[utterance] = b""
                assert item.format == Format(16000)
            elif isinstance(item, bytes):
                self.heard[utterance] += item
            elif isinstance(item, UtteranceEnd):
                self._end(item)

    def _end(self, item: UtteranceEnd) -> None:
        if item.drop_reason is not None:
            self._report(UtteranceCancelled(item.utterance, item.drop_reason))
        elif item.error is not None:
            self._report(UtteranceFailed(item.utterance, item.error))
        else:
            self._report(UtterancePlayed(item.utterance, 0.0))


class Stage:
    """A synthesizer in front of scripted services, with a player."""

    def __init__(
        self,
        *scripts: object,
        ring_bytes: int = 1 << 22,
        read: bool = True,
        first_audio_seconds: float = TIMEOUT_SECONDS,
        eager: bool = True,
        retry_seconds: float = 0.01,
        close_timing: CloseTiming = CLOSE_TIMING,
        connection_close_seconds: float = DEFAULT_TIMING.close_seconds,
    ) -> None:
        self._stack = ExitStack()
        self.servers = [self._stack.enter_context(Scripted(script)) for script in scripts]  # type: ignore[arg-type]
        self.events = Gathered()
        self.ring = RingBuffer(ring_bytes)
        self.player = Player(self.ring, self.events)
        self.services = services = [
            standby(
                server,
                self.events,
                f"voice{at}",
                eager=eager,
                retry_seconds=retry_seconds,
                dial_seconds=2 * TIMEOUT_SECONDS,
                close_seconds=connection_close_seconds,
            )
            for at, server in enumerate(self.servers)
        ]
        self.synthesizer = Synthesizer(
            self.ring,
            services,
            self.events,
            first_audio_seconds=first_audio_seconds,
            close_timing=close_timing,
            can_suspend=True,
        )
        if read:
            self.player.start()
        self.synthesizer.start()

    def say(self, name: str, *pieces: str) -> None:
        self.synthesizer.begin(Utterance(name, None))
        for piece in pieces:
            self.synthesizer.append_text(name, piece)
        self.synthesizer.complete(name)

    def await_rounds(self, count: int) -> None:
        """Wait until the loop of the synthesizer has run this often; a round takes one second at most."""
        rounds = threading.Semaphore(0)
        self.synthesizer.on_heartbeat = rounds.release
        for _ in range(count):
            assert rounds.acquire(timeout=TIMEOUT_SECONDS)

    def ends(self) -> list[Event]:
        return self.events.of(UtterancePlayed, UtteranceCancelled, UtteranceFailed)  # type: ignore[return-value]

    def end(self) -> None:
        """The services are still there afterwards."""
        self.synthesizer.stop()
        if not self.synthesizer.join(Deadline(TIMEOUT_SECONDS)):
            self.synthesizer.abort()
        assert self.synthesizer.join(Deadline(TIMEOUT_SECONDS)), "the synthesizer did not end"
        self.ring.close()
        if self.player.ident is not None:
            self.player.join(TIMEOUT_SECONDS)
            assert not self.player.is_alive()

    def close(self) -> None:
        self.end()
        self._stack.close()


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def build(*scripts: object, **more: object) -> Stage:
        stages.append(Stage(*scripts, **more))  # type: ignore[arg-type]
        return stages[-1]

    yield build
    for each in stages:
        each.close()


def test_utterance_is_spoken_whole_and_its_sessions_get_end_marks(stage: Callable[..., Stage]) -> None:
    voice = Voice()
    it = stage(voice)
    it.say("a", "Hello there. ", "How are", " you?")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard == {"a": sound("Hello there. How are you?")}
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice0")]
    it.end()
    assert [type(end) for end in it.ends()] == [UtterancePlayed]
    assert all(marks >= 1 for marks in voice.await_marks())


class SteadyVoice(Voice):
    """Sends a second and a half of audio at once, and the rest in pieces at a pace of its own."""

    PIECES = 50

    @classmethod
    def speak(cls, peer: Peer, passage: str) -> None:
        pcm, pace = sound(passage), threading.Event()
        start = 3 * RATE
        size = (len(pcm) - start) // cls.PIECES // 2 * 2
        peer.send(audio(pcm[:start]))
        for at in range(start, len(pcm), size):
            pace.wait(0.01)
            peer.send(audio(pcm[at : at + size]))
        peer.send(audio(b"", stop=True))


def test_service_that_is_ahead_is_read_with_few_wake_ups(stage: Callable[..., Stage]) -> None:
    it = stage(SteadyVoice(), read=False)
    text = "One two three four five six seven eight nine ten eleven twelve."
    it.say("a", text)
    written = len(sound(text))
    assert isinstance(it.ring.read(1, TIMEOUT_SECONDS), UtteranceStart)
    assert it.ring.wait_readable(2 * RATE, TIMEOUT_SECONDS)
    before = it.synthesizer.heartbeats
    assert it.ring.wait_readable(written, TIMEOUT_SECONDS)
    assert it.synthesizer.heartbeats - before < SteadyVoice.PIECES / 2
    arrivals = it.ring.arrivals()
    assert arrivals == sorted(arrivals) and sum(nbytes for _, nbytes in arrivals) == written


class HastyVoice(Voice):
    """Sends all audio at once."""

    @classmethod
    def speak(cls, peer: Peer, passage: str) -> None:
        pcm = sound(passage)
        size = 4000
        peer.send(b"".join(audio(pcm[at : at + size]) for at in range(0, len(pcm), size)) + audio(b"", stop=True))


def test_service_that_has_sent_everything_is_read_at_once(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses between the reads are for a service that sends slowly: a full socket would stop its pings."""
    pauses = 0

    def count_pauses(self: Poller[HasFileno], connection: Pollable | None, seconds: float | None) -> object:
        nonlocal pauses
        pauses += it.ring.unread_bytes > 2 * RATE and connection is None
        return usual(self, connection, seconds)

    it, usual = stage(HastyVoice(), read=False), Poller.wait
    monkeypatch.setattr(Poller, "wait", count_pauses)
    text = " ".join(["word"] * 150) + "."
    it.say("a", text)
    written = len(sound(text))
    assert isinstance(it.ring.read(1, TIMEOUT_SECONDS), UtteranceStart)
    assert it.ring.wait_readable(written, TIMEOUT_SECONDS)
    assert pauses < written // 65536


def test_suspended_utterance_continues_with_the_sentence_that_it_was_in(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(), read=False)
    it.say("a", "One two three. Four five six. ", "Seven eight nine. ")
    written = len(sound("one two three four five six seven eight nine"))
    assert isinstance(it.ring.read(1, TIMEOUT_SECONDS), UtteranceStart)
    assert it.ring.wait_readable(written, TIMEOUT_SECONDS)
    it.synthesizer.suspend("a", "an alarm")
    it.player.start()
    it.say("b", "Fire.")
    assert it.events.await_first(UtterancePlayed) == UtterancePlayed("b", 0.0)
    it.synthesizer.resume("a", 1.0)  # seconds: in the second sentence; each word has 0.2 s
    it.events.await_first(UtterancePlayed, 2)
    assert it.ends()[0] == UtteranceCancelled("a", "an alarm")
    assert it.player.heard == {"b": sound("Fire."), "a": sound("Four five six. Seven eight nine.")}


@pytest.mark.parametrize("suspends", [True, False])
def test_part_of_a_stopped_reply_that_was_heard_is_reported(stage: Callable[..., Stage], suspends: bool) -> None:
    it = stage(Voice(), read=False)
    it.say("a", "One two three. Four five six. ", "Seven eight nine. ")
    written = len(sound("one two three four five six seven eight nine"))
    assert isinstance(it.ring.read(1, TIMEOUT_SECONDS), UtteranceStart)
    assert it.ring.wait_readable(written, TIMEOUT_SECONDS)
    if suspends:
        it.synthesizer.suspend("a", "the user")
    else:
        it.synthesizer.cancel_all("a button")
    it.synthesizer.report_played_text("a", 1.0)  # seconds: each word has 0.2 s
    it.events.await_first(PlayedText)
    assert it.events.of(PlayedText) == [PlayedText("a", 0, "One two three. Four")]


def test_suspended_utterance_gets_its_further_text(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "One. Tw")
    it.events.await_first(AudioArrived)
    it.synthesizer.suspend("a", "an alarm")
    it.synthesizer.append_text("a", "o. Three.")
    it.synthesizer.complete("a")
    it.synthesizer.resume("a", 0.0)
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One. Two. Three.")


def test_unknown_utterance_that_is_continued_ends_with_a_reason(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.synthesizer.resume("a", 0.0)
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("a", NOT_SUSPENDED)


def test_utterance_that_is_suspended_before_its_first_audio_is_spoken_whole(stage: Callable[..., Stage]) -> None:
    go = threading.Event()
    voice = Voice()

    def wait(peer: Peer) -> None:
        go.wait(TIMEOUT_SECONDS)
        voice(peer)

    it = stage(wait)
    it.say("a", "One. Two.")
    it.synthesizer.suspend("a", "an alarm")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("a", "an alarm")
    go.set()
    it.synthesizer.resume("a", 0.0)
    it.events.await_first(UtterancePlayed)
    assert it.player.heard == {"a": sound("One. Two.")}


def test_chime_precedes_an_announcement_once(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.synthesizer.begin(Utterance("a", "One.", delivery=Delivery(chime="ding")))
    it.synthesizer.begin(Utterance("b", "Two.", turn=1, delivery=Delivery(chime="ding")))
    it.events.await_first(UtterancePlayed, 2)
    ding = chime_pcm("ding", Format(16000))
    assert it.player.heard == {"a": ding + sound("One."), "b": sound("Two.")}


def test_timer_sounds_at_once_and_another_service_may_still_speak_its_text(stage: Callable[..., Stage]) -> None:
    it = stage(refuses("503 Service Unavailable", "Retry-After: 60"), Voice())
    it.say("a", "Hello there.")
    it.events.await_first(UtterancePlayed)
    it.synthesizer.begin(Utterance("t", "It is over.", source=TIMER, delivery=Delivery(chime="alert")))
    it.events.await_first(UtterancePlayed, 2)
    assert it.player.heard["t"] == chime_pcm("alert", Format(RATE)) + sound("It is over.")


def test_timer_sounds_while_no_service_can_speak(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(after=0, then=refuses_the_text), read=False)
    it.synthesizer.begin(Utterance("t", "It is over.", source=TIMER, delivery=Delivery(chime="alert")))
    start = it.ring.read(1 << 20, TIMEOUT_SECONDS)
    assert isinstance(start, UtteranceStart) and start.utterance == "t"
    assert start.playout.starts_stored, "the time from the chime to the speech is not the pace of a service"
    assert it.ring.read(1 << 20, TIMEOUT_SECONDS) == chime_pcm("alert", start.format)
    assert isinstance(end := it.ring.read(1 << 20, TIMEOUT_SECONDS), UtteranceEnd) and end.error is not None


def test_wake_sound_is_played_while_no_utterance_is_spoken(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.say("a", "Hello there.")
    it.events.await_first(UtterancePlayed)
    it.synthesizer.play_wake_sound()
    it.say("b", "How are you?")
    it.events.await_first(UtterancePlayed, 3)  # the reader of the ring reports the sound as well
    assert list(it.player.heard) == ["a", "wake sound", "b"]
    assert it.player.heard["wake sound"] == wake_sound(Format(RATE))


def test_filler_sound_is_played_and_does_not_delay_the_next_utterance(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.say("a", "Hello there.")
    it.events.await_first(UtterancePlayed)
    it.synthesizer.play_filler_sound()
    it.events.await_first(UtterancePlayed, 2)
    assert it.player.heard.pop("filler sound") == filler_sound(Format(RATE))
    it.player.permitted.clear()
    it.synthesizer.play_filler_sound()
    it.say("b", "How are you?")
    it.events.await_first(AudioArrived, 2)
    it.player.permitted.set()
    it.events.await_first(UtterancePlayed, 3)
    assert list(it.player.heard)[-1] == "b"
    assert len(it.player.heard.get("filler sound", b"")) < len(filler_sound(Format(RATE)))


def test_service_of_an_utterance_is_tried_first(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(), Voice())
    it.synthesizer.begin(Utterance("a", "One.", delivery=Delivery(service="voice1")))
    it.synthesizer.begin(Utterance("b", "Two."))
    it.events.await_first(UtterancePlayed, 2)
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice1"), AudioArrived("b", "voice0")]


def test_voice_of_an_utterance_has_a_connection_of_its_own(stage: Callable[..., Stage]) -> None:
    usual, other = Voice(), Voice()
    it = stage(usual, other)
    asked: list[str] = []

    def with_voice(voice: str) -> Standby:
        asked.append(voice)
        return standby(it.servers[1], it.events, "voice0", eager=False)

    it.services[0].with_voice = with_voice
    it.synthesizer.begin(Utterance("a", "One.", delivery=Delivery(voice="anna")))
    it.synthesizer.begin(Utterance("b", "Two."))
    it.events.await_first(UtterancePlayed, 2)
    assert asked == ["anna"] and other.passages == ["One."] and usual.passages == ["Two."]


def test_discarded_utterance_has_no_further_event(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.say("a", "One.")
    it.events.await_first(UtterancePlayed)
    it.synthesizer.suspend("a", "an alarm")
    it.synthesizer.discard("a")
    it.say("b", "Two.")
    it.events.await_first(UtterancePlayed, 2)
    assert len(it.ends()) == 2


def test_utterances_are_spoken_in_order(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    for name in ("a", "b", "c"):
        it.say(name, f"This is {name}.")
    it.events.await_first(UtterancePlayed, 3)
    assert list(it.player.heard) == ["a", "b", "c"]
    assert it.player.heard["c"] == sound("This is c.")


def test_long_text_is_requested_only_as_far_as_the_ring_has_room(stage: Callable[..., Stage]) -> None:
    """Services send faster than real time: audio without room in the ring keeps the socket unread until pings fail."""
    voice = Voice()
    it = stage(voice, read=False)
    text = "One sentence like all the others. " * 100
    passages = split_passages(text)
    assert len(passages) > 3
    it.synthesizer.begin(Utterance("a", text))
    it.events.await_first(AudioArrived)
    deadline = Deadline(TIMEOUT_SECONDS)
    while it.ring.written_bytes < len(sound(passages[0])):
        assert not deadline.is_expired
        it.ring.wait_cleared(1, 0.01)
    assert voice.passages == passages[:1]
    it.player.start()
    it.events.await_first(UtterancePlayed)
    assert voice.passages == passages
    assert it.player.heard == {"a": b"".join(map(sound, passages))}


def test_sentence_is_sent_before_the_next_one_is_complete(stage: Callable[..., Stage]) -> None:
    voice = Voice()
    it = stage(voice)
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "The first is whole. The second")
    it.events.await_first(AudioArrived)
    assert voice.passages == ["The first is whole."] or voice.passages == ["The first is whole. "]
    it.synthesizer.append_text("a", " follows.")
    it.synthesizer.complete("a")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("The first is whole. The second follows.")


@pytest.mark.parametrize(
    ("bad", "needs_limit"),
    [
        (mute, True),
        (silent, True),
        (deaf, True),
        (refuses("403 Forbidden"), False),
        (refuses("503 Service Unavailable", "Retry-After: 60"), False),
        (Voice(after=0, then=hangs_up), False),
        (Voice(after=0, then=resets), False),
        (Voice(after=0, then=falls_silent), True),
        (Voice(after=0, then=refuses_the_text), False),
    ],
    ids=["mute", "silent", "deaf", "403", "503", "hangs up", "resets", "falls silent", "refuses the text"],
)
def test_failure_before_the_first_audio_sends_the_whole_text_to_the_next_service(
    stage: Callable[..., Stage], bad: object, needs_limit: bool
) -> None:
    good = Voice()
    it = stage(bad, good, first_audio_seconds=LIMIT_SECONDS if needs_limit else TIMEOUT_SECONDS)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard == {"a": sound("One is here. Two is here.")}
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice1")]
    assert [type(end) for end in it.ends()] == [UtterancePlayed]


@pytest.mark.parametrize("then", [hangs_up, resets, falls_silent, refuses_the_text])
@pytest.mark.parametrize("after", [0, 1])
def test_failure_after_the_first_audio_does_not_start_again(
    stage: Callable[..., Stage], then: Callable[..., None], after: int
) -> None:
    first, second = Voice(after=after, chunks=1, then=then), Voice()
    it = stage(first, second, first_audio_seconds=LIMIT_SECONDS if then is falls_silent else TIMEOUT_SECONDS)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(AudioArrived)
    first.go.set()
    end = it.events.await_first(UtteranceFailed)
    assert end.utterance == "a" and "voice0" in end.reason
    assert sound("One is here. Two is here.").startswith(it.player.heard["a"]) and it.player.heard["a"]
    assert second.passages == []
    assert [type(end) for end in it.ends()] == [UtteranceFailed]


def test_failure_of_all_services_reports_all_reasons(stage: Callable[..., Stage]) -> None:
    it = stage(refuses("403 Forbidden"), Voice(after=0, then=hangs_up))
    it.say("a", "One.")
    end = it.events.await_first(UtteranceFailed)
    assert "voice0" in end.reason and "voice1" in end.reason and end.seconds == 0.0
    assert it.ends() == [end]


def test_text_that_the_service_refuses_is_no_outage(stage: Callable[..., Stage]) -> None:
    def invalid(peer: Peer) -> None:
        peer.send(frame(TEXT, json.dumps({"type": "error", "message": "invalid", "status_code": 400}).encode()))
        peer.read_all()

    it = stage(Voice(after=0, then=invalid, deaths=1))
    it.say("a", "One is invalid.")
    assert not it.events.await_first(UtteranceFailed).no_service
    it.say("b", "Two is here.")
    it.events.await_first(UtterancePlayed)
    assert not it.events.await_first(ServiceDown).permanent


def test_outage_is_no_refused_text(stage: Callable[..., Stage]) -> None:
    it = stage(refuses("403 Forbidden"))
    it.say("a", "One.")
    assert it.events.await_first(UtteranceFailed).no_service


def test_retry_of_the_only_service_dials_without_a_standby_connection(
    stage: Callable[..., Stage],
) -> None:
    it = stage(Voice(after=0, then=hangs_up, deaths=1), eager=False)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here. Two is here.")
    assert [type(end) for end in it.ends()] == [UtterancePlayed]


def test_utterance_during_backoff_waits_for_the_next_dial(
    stage: Callable[..., Stage],
) -> None:
    voice, dropped = Voice(), threading.Event()

    def drops_the_first(peer: Peer) -> None:
        if dropped.is_set():
            voice(peer)
        else:
            dropped.set()
            peer.accept()

    it = stage(drops_the_first, retry_seconds=1.0)
    it.events.await_first(ServiceDown)
    it.say("a", "One is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here.")


@pytest.mark.parametrize("recovered", [0, 1])
def test_utterance_after_an_outage_tries_the_services_at_once(stage: Callable[..., Stage], recovered: int) -> None:
    """The delays of both services last longer than the test."""
    is_over = threading.Event()

    def unavailable(voice: Callable[[Peer], None] | None) -> Callable[[Peer], None]:
        def serve(peer: Peer) -> None:
            if voice is not None and is_over.is_set():
                voice(peer)
            else:
                peer.answer("500 Internal Server Error")

        return serve

    it = stage(*(unavailable(Voice() if at == recovered else None) for at in (0, 1)), retry_seconds=3600.0)
    it.events.await_first(ServiceDown, 2)
    is_over.set()
    it.say("a", "One is here.")
    it.events.await_first(UtterancePlayed)
    assert it.events.of(AudioArrived) == [AudioArrived("a", f"voice{recovered}")]


def test_repeated_reason_is_reported_once(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(after=0, then=hangs_up), eager=False)
    it.say("a", "One.")
    assert it.events.await_first(UtteranceFailed).reason.count("1006") == 1


def test_next_utterance_is_spoken_after_a_failed_one(stage: Callable[..., Stage]) -> None:
    first = Voice(after=0, chunks=1, then=hangs_up, deaths=1)
    it = stage(first, Voice())
    it.say("a", "One is lost.")
    it.say("b", "Two is heard.")
    it.events.await_first(AudioArrived)
    first.go.set()
    it.events.await_first(UtteranceFailed)
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["b"] == sound("Two is heard.")


def test_utterance_without_words_is_played_at_once(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.say("a", " \n ")
    assert it.events.await_first(UtterancePlayed) == UtterancePlayed("a", 0.0)
    assert it.player.heard == {}


def test_hush_cancels_every_utterance_with_one_event(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(), ring_bytes=4096, read=False)  # so the writer waits in the ring
    for name in ("a", "b", "c"):
        it.say(name, "A long text that fills the small ring at once, and more.")
    it.events.await_first(AudioArrived)
    it.synthesizer.cancel_all("test")
    it.player.start()
    for count in (1, 2, 3):
        assert it.events.await_first(UtteranceCancelled, count).reason == "test"
    it.say("d", "Afterwards.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["d"] == sound("Afterwards.")
    assert sorted(end.utterance for end in it.ends()) == ["a", "b", "c", "d"]  # type: ignore[union-attr]


def test_hush_ends_the_wait_for_a_service(stage: Callable[..., Stage]) -> None:
    it = stage(mute, first_audio_seconds=2 * TIMEOUT_SECONDS)
    it.say("a", "One.")
    assert it.servers[0].arrived.acquire(timeout=TIMEOUT_SECONDS)
    it.synthesizer.cancel_all("test")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("a", "test")


@pytest.mark.parametrize("late", [True, False], ids=["before it is begun", "after it is begun"])
def test_no_audio_of_a_cancelled_utterance_is_written_after_hush(stage: Callable[..., Stage], late: bool) -> None:
    """The first audio may arrive while cancel_all() empties the ring, before its command is processed."""
    it = stage(Voice(), read=False)
    begin = it.ring.begin

    def begin_meanwhile(utterance: str, format: Format, playout: Playout) -> int:
        stream_id = None if late else begin(utterance, format, playout)
        hushing = threading.Thread(target=it.synthesizer.cancel_all, args=["test"])
        hushing.start()
        hushing.join()
        return begin(utterance, format, playout) if stream_id is None else stream_id

    it.ring.begin = begin_meanwhile  # type: ignore[method-assign]
    it.say("a", "One.")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("a", "test")
    it.ring.begin = begin  # type: ignore[method-assign]
    assert it.ring.written_bytes == 0
    it.player.start()
    it.say("b", "Two.")
    assert it.events.await_first(UtterancePlayed).utterance == "b" and it.player.heard["b"] == sound("Two.")
    assert [end.utterance for end in it.ends()] == ["a", "b"]  # type: ignore[union-attr]


def test_hush_at_any_time_leaves_no_utterance_without_an_end(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    for number in range(20):
        it.say(f"u{number}", "Some words to say.")
        if number % 2:
            it.events.await_event(AudioArrived(f"u{number}", "voice0"))
        it.synthesizer.cancel_all("test")
    it.say("last", "Good.")
    it.events.await_first(UtterancePlayed)
    it.close()
    ended = [end.utterance for end in it.ends()]  # type: ignore[union-attr]
    assert sorted(ended) == sorted([*(f"u{number}" for number in range(20)), "last"])


def test_stop_drains_the_current_utterance(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "The first is whole. And the second is not")
    it.synthesizer.stop()
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("The first is whole. And the second is not")
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))


def test_abort_cancels_every_utterance_with_one_event(stage: Callable[..., Stage]) -> None:
    voice = Voice(after=0, chunks=1, then=falls_silent)
    voice.go.set()
    it = stage(voice, first_audio_seconds=2 * TIMEOUT_SECONDS)
    it.say("a", "One is here.")
    it.say("b", "Two waits.")
    it.events.await_first(AudioArrived)
    it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))
    it.close()
    assert sorted(end.utterance for end in it.ends()) == ["a", "b"]  # type: ignore[union-attr]
    assert all(isinstance(end, UtteranceCancelled) for end in it.ends())


def test_utterance_after_stop_is_cancelled(stage: Callable[..., Stage]) -> None:
    voice = Voice(after=0, chunks=1, then=falls_silent)
    voice.go.set()
    it = stage(voice, first_audio_seconds=2 * TIMEOUT_SECONDS)
    it.say("a", "One is here.")
    it.events.await_first(AudioArrived)
    it.synthesizer.stop()
    it.say("b", "Too late.")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("b", "shutdown")
    it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))


@pytest.mark.parametrize("gently", [True, False])
def test_dead_peers_are_closed_side_by_side(stage: Callable[..., Stage], gently: bool) -> None:
    """Closing them one after the other exceeds the shutdown time of the daemon."""
    it = stage(
        deaf,
        deaf,
        mute,
        first_audio_seconds=2 * TIMEOUT_SECONDS,
        close_timing=CloseTiming(4.0, 4.0, 2 * TIMEOUT_SECONDS),
        connection_close_seconds=2 * TIMEOUT_SECONDS,
    )
    it.say("a", "One is here.")
    assert it.servers[0].arrived.acquire(timeout=TIMEOUT_SECONDS)
    if gently:
        it.synthesizer.cancel_all("test")
        it.events.await_first(UtteranceCancelled)
    began = time.monotonic()
    if gently:
        it.synthesizer.stop()
    else:
        it.synthesizer.cancel_all("SIGTERM")
        it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))
    assert time.monotonic() - began < 7.9, "two goodbyes of four seconds each, side by side"


def test_abort_shortens_a_stop_in_progress(stage: Callable[..., Stage]) -> None:
    it = stage(
        deaf,
        deaf,
        first_audio_seconds=2 * TIMEOUT_SECONDS,
        close_timing=CloseTiming(2 * TIMEOUT_SECONDS, STAGE_ABORT_SECONDS, 2 * TIMEOUT_SECONDS),
        connection_close_seconds=2 * TIMEOUT_SECONDS,
    )
    assert it.servers[0].arrived.acquire(timeout=TIMEOUT_SECONDS)
    it.synthesizer.stop()
    it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))


@pytest.mark.parametrize("then", [hangs_up, resets, refuses_the_text])
def test_connection_that_ends_between_two_sentences_is_replaced(
    stage: Callable[..., Stage], then: Callable[[Peer], None]
) -> None:
    gone, closed = threading.Event(), threading.Event()
    first = Voice()

    def once(peer: Peer) -> None:
        if first.marks:
            first(peer)
            return
        first.marks.append(0)
        peer.accept()
        text = ""
        while "<STOP>" not in text:
            text += json.loads(peer.read_frame()[1])["text"]
        with first.changed:
            first.passages.append(text.partition("<STOP>")[0])
            first.changed.notify_all()
        first.speak(peer, first.passages[-1])
        gone.wait(TIMEOUT_SECONDS)
        then(peer)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)
        closed.set()

    it = stage(once)
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "One is here. And")
    first.await_passages(1)
    it.events.await_first(AudioArrived)
    gone.set()
    assert closed.wait(TIMEOUT_SECONDS)
    it.await_rounds(2)  # the first of them has read the end of the connection
    it.synthesizer.append_text("a", " two is here. And three")
    first.await_passages(2)
    it.synthesizer.complete("a")
    end = it.events.await_first(UtterancePlayed)
    assert end.utterance == "a" and it.player.heard["a"] == sound("One is here. And two is here. And three")
    assert " ".join(" ".join(first.passages).split()) == "One is here. And two is here. And three"


def test_later_session_is_converted_to_the_format_of_the_first(stage: Callable[..., Stage]) -> None:
    rates = iter((16000, 48000))
    given: list[int] = []

    def speaks(peer: Peer) -> None:
        peer.accept()
        while b"<STOP>" not in (got := peer.read_frame())[1]:
            if got[0] < 0:
                return
        if (rate := next(rates, None)) is None:
            return
        given.append(rate)
        data = {"audio": base64.b64encode(bytes(2 * rate)).decode(), "text": "", "sampling_rate": rate, "stop": True}
        # The sound and the close frame in one segment: a client that has the one has the other.
        peer.send(frame(TEXT, json.dumps({"data": data}).encode()) + close_frame(1000))
        peer.read_frame()

    it = stage(speaks)
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "One is here. And")
    it.events.await_first(AudioArrived)
    it.synthesizer.append_text("a", " two. ")
    it.synthesizer.complete("a")
    it.events.await_first(UtterancePlayed)
    assert given == [16000, 48000] and len(it.player.heard["a"]) == 2 * 2 * 16000


def test_later_session_without_audio_is_a_failure(stage: Callable[..., Stage]) -> None:
    answers = iter((sound("One is here."), b""))
    other = Voice()

    def speaks_once(peer: Peer) -> None:
        peer.accept()
        while b"<STOP>" not in (got := peer.read_frame())[1]:
            if got[0] < 0:
                return
        if (pcm := next(answers, None)) is not None:
            # The sound and the close frame in one segment: a client that has the one has the other.
            peer.send(audio(pcm, stop=True) + close_frame(1000))
            peer.read_frame()

    it = stage(speaks_once, other)
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "One is here. And")
    it.events.await_first(AudioArrived)
    it.synthesizer.append_text("a", " two is not. ")
    it.synthesizer.complete("a")
    end = it.events.await_first(UtteranceFailed)
    assert "voice0" in end.reason and "without audio" in end.reason
    assert it.player.heard["a"] == sound("One is here.") and other.passages == []
    assert [type(end) for end in it.ends()] == [UtteranceFailed]


@pytest.mark.parametrize(
    "refusal", [("429 Too Many Requests",), ("429 Too Many Requests", "Retry-After: 1"), ("503 Busy", "Retry-After: 1")]
)
def test_only_service_is_asked_again_after_a_busy_status(stage: Callable[..., Stage], refusal: tuple[str, ...]) -> None:
    voice, refused = Voice(), threading.Event()

    def busy_once(peer: Peer) -> None:
        if refused.is_set():
            voice(peer)
        else:
            refused.set()
            peer.answer(*refusal)

    it = stage(busy_once)
    assert refused.wait(TIMEOUT_SECONDS)
    it.say("a", "One is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here.")


def test_retry_after_beyond_the_limit_fails_at_once(stage: Callable[..., Stage]) -> None:
    it = stage(refuses("429 Too Many Requests", "Retry-After: 60"), first_audio_seconds=30.0)
    began = time.monotonic()
    it.say("a", "One is here.")
    end = it.events.await_first(UtteranceFailed)
    assert time.monotonic() - began < 30.0
    due = re.search(r"the next retry is in (\d+) s, after the 30 s", end.reason)
    assert "429" in end.reason and due is not None and 30 < int(due[1]) <= 60


def test_retry_after_beyond_the_rest_of_the_limit_fails_at_once(stage: Callable[..., Stage]) -> None:
    asked, seconds = threading.Event(), chain(("2",), repeat("59"))

    def busy(peer: Peer) -> None:
        asked.wait(TIMEOUT_SECONDS)
        peer.answer("429 Too Many Requests", f"Retry-After: {next(seconds)}")

    it = stage(busy, first_audio_seconds=60.0)
    it.say("a", "One is here.")
    it.await_rounds(3)  # the limit has started
    asked.set()
    end = it.events.await_first(UtteranceFailed)
    assert "after the rest of the 60 s" in end.reason


def test_busy_service_is_skipped_if_another_one_is_left(stage: Callable[..., Stage]) -> None:
    longer = 2 * TIMEOUT_SECONDS
    it = stage(refuses("429 Too Many Requests", f"Retry-After: {longer:.0f}"), Voice(), first_audio_seconds=2 * longer)
    it.say("a", "One is here.")
    it.events.await_first(UtterancePlayed)
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice1")]


def test_busy_message_on_an_open_connection_is_retried_on_a_new_one(stage: Callable[..., Stage]) -> None:

    def too_many(peer: Peer) -> None:
        peer.send(frame(TEXT, json.dumps({"type": "error", "message": "busy", "status_code": 429}).encode()))
        peer.read_all()

    voice = Voice(after=0, then=too_many, deaths=4)  # four in a row, each soon after the dial, are no refused key
    it = stage(voice)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here. Two is here.")
    assert [type(end) for end in it.ends()] == [UtterancePlayed]


def test_service_that_stays_busy_is_given_up_after_the_limit(stage: Callable[..., Stage]) -> None:
    def too_many(peer: Peer) -> None:
        peer.send(frame(TEXT, json.dumps({"type": "error", "message": "busy", "status_code": 429}).encode()))
        peer.read_all()

    it = stage(Voice(after=0, then=too_many), first_audio_seconds=LIMIT_SECONDS)
    it.say("a", "One is here.")
    assert "busy" in it.events.await_first(UtteranceFailed).reason


def test_text_is_not_sent_again_after_an_error_of_the_service_that_a_close_follows_at_once(
    stage: Callable[..., Stage],
) -> None:
    def refuses_and_closes(peer: Peer) -> None:
        error = json.dumps({"type": "error", "message": f"no voice, error {len(voice.marks)}"}).encode()
        peer.send(frame(TEXT, error) + close_frame(1000))  # in one packet, which arrives as a whole
        peer.read_all()

    voice = Voice(after=0, then=refuses_and_closes)
    it = stage(voice, eager=False)
    it.say("a", "One is here.")
    reason = it.events.await_first(UtteranceFailed).reason
    assert reason.count("no voice") == 1 and voice.passages == ["One is here."]


def closes_normally(peer: Peer) -> None:
    peer.send(close_frame(1000))
    peer.read_all()


def test_service_that_closes_after_each_text_gets_the_rest_over_other_connections(stage: Callable[..., Stage]) -> None:
    voice = Voice(after=1, then=closes_normally)
    it = stage(voice)
    it.say("a", "One is here. ", "Two is here. ", "Three is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here.") + sound("Two is here.") + sound("Three is here.")


def test_text_whose_audio_has_begun_is_not_repeated_after_a_normal_close(stage: Callable[..., Stage]) -> None:
    voice = Voice(after=1, chunks=1, then=closes_normally)
    voice.go.set()
    it = stage(voice)
    it.say("a", "One is here. ", "Two is here.")
    assert "1000" in it.events.await_first(UtteranceFailed).reason
    assert it.player.heard["a"] == sound("One is here.") + sound("Two is here.")[:3200]

"""The synthesizer against services that are polite, mute, dying or lying: every utterance ends in exactly one event."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, repeat

import pytest
from support.gathered import Gathered
from support.scripted import TEXT, Peer, Scripted, close_frame, deaf, frame, mute, refuses, silent
from support.voices import Voice, falls_silent, hangs_up, refuses_the_text, resets, sound, standby

from agent.audio.format import Format
from agent.pipeline.events import (
    AudioArrived,
    Event,
    ServiceDown,
    Utterance,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.service_stage import DEFAULT_CLOSE_TIMING, CloseTiming
from agent.pipeline.text_splitter import split_passages
from agent.pipeline.tts.fallback import SynthesisJob
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.services.connection import closing as farewells
from agent.services.connection.websocket import Connection
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0


class Player(threading.Thread):
    """Reads the ring as a speaker does, without a card, and says how each utterance ended."""

    def __init__(self, ring: RingBuffer, report: Callable[[Event], None]) -> None:
        super().__init__(name="player")
        self.heard: dict[str, bytes] = {}
        self.paused = threading.Event()
        self._ring, self._report = ring, report

    def run(self) -> None:
        utterance = ""
        while not isinstance(item := self._ring.read(1 << 16, 0.05), RingClosed):
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
    """A synthesizer before real sockets, with a ring that is read."""

    def __init__(
        self,
        *scripts: object,
        ring_bytes: int = 1 << 22,
        read: bool = True,
        patience: float = TIMEOUT_SECONDS,
        eager: bool = True,
        retry_seconds: float = 0.01,
        close_timing: CloseTiming = DEFAULT_CLOSE_TIMING,
    ) -> None:
        self._stack = ExitStack()
        self.servers = [self._stack.enter_context(Scripted(script)) for script in scripts]  # type: ignore[arg-type]
        self.events = Gathered()
        self.ring = RingBuffer(ring_bytes)
        self.player = Player(self.ring, self.events)
        services = [
            standby(
                server,
                self.events,
                f"voice{at}",
                eager=eager,
                retry_seconds=retry_seconds,
                dial_seconds=2 * TIMEOUT_SECONDS,
            )
            for at, server in enumerate(self.servers)
        ]
        self.synthesizer = Synthesizer(
            self.ring, services, self.events, first_audio_seconds=patience, close_timing=close_timing
        )
        if read:
            self.player.start()
        self.synthesizer.start()

    def say(self, name: str, *pieces: str) -> None:
        self.synthesizer.begin(Utterance(name, None))
        for piece in pieces:
            self.synthesizer.append_text(name, piece)
        self.synthesizer.complete(name)

    @property
    def jobs(self) -> deque[SynthesisJob]:
        return self.synthesizer._jobs

    def await_event(self, true: Callable[[], bool]) -> None:
        deadline, pause = Deadline(TIMEOUT_SECONDS), threading.Event()
        while not true():
            assert not deadline.is_expired
            pause.wait(0.01)

    def wait_no_longer(self) -> None:
        """The session under way, and no other, has no patience any more."""
        self.await_event(lambda: self.synthesizer._session is not None)
        session = self.synthesizer._session
        assert session is not None
        session._first_audio_seconds = 0.2

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


def test_an_utterance_is_spoken_whole_and_its_sessions_get_their_end_mark(stage: Callable[..., Stage]) -> None:
    voice = Voice()
    it = stage(voice)
    it.say("a", "Hello there. ", "How are", " you?")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard == {"a": sound("Hello there. How are you?")}
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice0")]
    it.end()
    assert [type(end) for end in it.ends()] == [UtterancePlayed]
    assert all(marks >= 1 for marks in voice.await_marks())


def test_utterances_are_spoken_in_their_order(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    for name in ("a", "b", "c"):
        it.say(name, f"This is {name}.")
    it.events.await_first(UtterancePlayed, 3)
    assert list(it.player.heard) == ["a", "b", "c"]
    assert it.player.heard["c"] == sound("This is c.")


def test_of_a_long_text_no_more_is_asked_for_than_the_ring_can_hold(stage: Callable[..., Stage]) -> None:
    """A text of minutes was asked for at once. Its sound filled the ring, from then on the socket was read at the pace
    of the ear, the service's ping was answered minutes late, and the service gave up in the middle of the text."""
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


def test_a_sentence_is_handed_over_before_the_next_is_written(stage: Callable[..., Stage]) -> None:
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
    "bad",
    [
        mute,
        silent,
        deaf,
        refuses("403 Forbidden"),
        refuses("503 Service Unavailable", "Retry-After: 60"),
        Voice(after=0, then=hangs_up),
        Voice(after=0, then=resets),
        Voice(after=0, then=falls_silent),
        Voice(after=0, then=refuses_the_text),
    ],
    ids=["mute", "silent", "deaf", "403", "503", "hangs up", "resets", "falls silent", "refuses the text"],
)
def test_what_fails_before_its_first_sound_goes_to_the_next_service_whole(
    stage: Callable[..., Stage], bad: object
) -> None:
    good = Voice()
    it = stage(bad, good)
    it.say("a", "One is here. Two is here.")
    if bad is mute:
        it.await_event(lambda: bool(it.jobs) and it.jobs[0].deadline.remaining() is not None)
        it.jobs[0].deadline = Deadline(0.2)  # the next service has all of it again
    elif bad in (silent, deaf) or getattr(bad, "_then", None) is falls_silent:
        it.wait_no_longer()
    it.events.await_first(UtterancePlayed)
    assert it.player.heard == {"a": sound("One is here. Two is here.")}
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice1")]
    assert [type(end) for end in it.ends()] == [UtterancePlayed]


@pytest.mark.parametrize("then", [hangs_up, resets, falls_silent, refuses_the_text])
@pytest.mark.parametrize("after", [0, 1])
def test_what_fails_after_its_first_sound_is_not_begun_again(
    stage: Callable[..., Stage], then: Callable[..., None], after: int
) -> None:
    first, second = Voice(after=after, chunks=1, then=then), Voice()
    it = stage(first, second)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(AudioArrived)
    if then is falls_silent:
        it.wait_no_longer()
    first.go.set()
    end = it.events.await_first(UtteranceFailed)
    assert end.utterance == "a" and "voice0" in end.reason
    assert sound("One is here. Two is here.").startswith(it.player.heard["a"]) and it.player.heard["a"]
    assert second.passages == []
    assert [type(end) for end in it.ends()] == [UtteranceFailed]


def test_where_no_service_gives_a_sound_the_reasons_of_all_are_told(stage: Callable[..., Stage]) -> None:
    it = stage(refuses("403 Forbidden"), Voice(after=0, then=hangs_up))
    it.say("a", "One.")
    end = it.events.await_first(UtteranceFailed)
    assert "voice0" in end.reason and "voice1" in end.reason and end.seconds == 0.0
    assert it.ends() == [end]


def test_the_second_chance_of_the_only_service_is_dialled_for_where_nothing_is_kept_ready(
    stage: Callable[..., Stage],
) -> None:
    """Where just one connection is dialled, its break was the end: the second chance was the same error once more."""
    it = stage(Voice(after=0, then=hangs_up, deaths=1), eager=False)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here. Two is here.")
    assert [type(end) for end in it.ends()] == [UtterancePlayed]


def test_an_utterance_that_comes_while_its_only_service_is_left_alone_is_dialled_for(
    stage: Callable[..., Stage],
) -> None:
    """An idle connection was dropped soon after its dial. What was to be said in the second before the next dial was
    refused with that, although the service was there."""
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


def test_a_reason_that_comes_twice_is_told_once(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(after=0, then=hangs_up), eager=False)
    it.say("a", "One.")
    assert it.events.await_first(UtteranceFailed).reason.count("without a close frame") == 1


def test_the_next_utterance_is_spoken_although_one_failed(stage: Callable[..., Stage]) -> None:
    first = Voice(after=0, chunks=1, then=hangs_up, deaths=1)
    it = stage(first, Voice())
    it.say("a", "One is lost.")
    it.say("b", "Two is heard.")
    it.events.await_first(AudioArrived)
    first.go.set()
    it.events.await_first(UtteranceFailed)
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["b"] == sound("Two is heard.")


def test_an_utterance_without_a_word_is_spoken_at_once(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.say("a", " \n ")
    assert it.events.await_first(UtterancePlayed) == UtterancePlayed("a", 0.0)
    assert it.player.heard == {}


def test_hush_drops_what_is_said_and_what_waits_with_one_event_for_each(stage: Callable[..., Stage]) -> None:
    it = stage(Voice(), ring_bytes=4096, read=False)  # so the writer waits in the ring
    for name in ("a", "b", "c"):
        it.say(name, "A long text that fills the small ring at once, and more.")
    it.events.await_first(AudioArrived)
    it.synthesizer.hush("somebody")
    it.player.start()
    for count in (1, 2, 3):
        assert it.events.await_first(UtteranceCancelled, count).reason == "somebody"
    it.say("d", "Afterwards.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["d"] == sound("Afterwards.")
    assert sorted(end.utterance for end in it.ends()) == ["a", "b", "c", "d"]  # type: ignore[union-attr]


def test_hush_while_a_service_keeps_us_waiting_ends_the_wait(stage: Callable[..., Stage]) -> None:
    it = stage(mute, patience=2 * TIMEOUT_SECONDS)
    it.say("a", "One.")
    assert it.servers[0].arrived.acquire(timeout=TIMEOUT_SECONDS)
    it.synthesizer.hush("somebody")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("a", "somebody")


@pytest.mark.parametrize("late", [True, False], ids=["before it is begun", "after it is begun"])
def test_after_a_hush_no_sample_of_what_it_cut_comes_into_the_ring(stage: Callable[..., Stage], late: bool) -> None:
    """An utterance whose first sound came just while the ring was emptied was begun there, and heard until the thread
    came round to the letter that said so."""
    it = stage(Voice(), read=False)
    begin = it.ring.begin

    def begin_meanwhile(utterance: str, format: Format) -> int:
        stream_id = None if late else begin(utterance, format)
        hushing = threading.Thread(target=it.synthesizer.hush, args=["somebody"])
        hushing.start()
        hushing.join()
        return begin(utterance, format) if stream_id is None else stream_id

    it.ring.begin = begin_meanwhile  # type: ignore[method-assign]
    it.say("a", "One.")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("a", "somebody")
    it.ring.begin = begin  # type: ignore[method-assign]
    assert it.ring.written_bytes == 0
    it.player.start()
    it.say("b", "Two.")
    assert it.events.await_first(UtterancePlayed).utterance == "b" and it.player.heard["b"] == sound("Two.")
    assert [end.utterance for end in it.ends()] == ["a", "b"]  # type: ignore[union-attr]


def test_hush_at_any_moment_leaves_no_utterance_without_its_end(stage: Callable[..., Stage]) -> None:
    """Twenty times, at moments that the machine chooses: between the first sound and the speaker that takes it, too."""
    it = stage(Voice())
    for number in range(20):
        it.say(f"u{number}", "Some words to say.")
        if number % 2:
            it.events.await_event(AudioArrived(f"u{number}", "voice0"))
        it.synthesizer.hush("somebody")
    it.say("last", "Good.")
    it.events.await_first(UtterancePlayed)
    it.close()
    ended = [end.utterance for end in it.ends()]  # type: ignore[union-attr]
    assert sorted(ended) == sorted([*(f"u{number}" for number in range(20)), "last"])


def test_stop_lets_the_utterance_under_way_flow_out(stage: Callable[..., Stage]) -> None:
    it = stage(Voice())
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "The first is whole. And the second is not")
    it.synthesizer.stop()
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("The first is whole. And the second is not")
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))


def test_abort_ends_at_once_with_the_end_mark_and_an_event_for_each(stage: Callable[..., Stage]) -> None:
    voice = Voice(after=0, chunks=1, then=falls_silent)
    voice.go.set()
    it = stage(voice, patience=2 * TIMEOUT_SECONDS)
    it.say("a", "One is here.")
    it.say("b", "Two waits.")
    it.events.await_first(AudioArrived)
    it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))
    it.close()
    assert sorted(end.utterance for end in it.ends()) == ["a", "b"]  # type: ignore[union-attr]
    assert all(isinstance(end, UtteranceCancelled) for end in it.ends())


def test_what_begins_after_the_stop_is_cancelled(stage: Callable[..., Stage]) -> None:
    voice = Voice(after=0, chunks=1, then=falls_silent)
    voice.go.set()
    it = stage(voice, patience=2 * TIMEOUT_SECONDS)
    it.say("a", "One is here.")
    it.events.await_first(AudioArrived)
    it.synthesizer.stop()
    it.say("b", "Too late.")
    assert it.events.await_first(UtteranceCancelled) == UtteranceCancelled("b", "shutdown")
    it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))


def without_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A goodbye that is not cut short by its stage lasts for longer than the test waits."""
    monkeypatch.setattr(farewells, "BACKGROUND_CLOSE_SECONDS", 2 * TIMEOUT_SECONDS)
    monkeypatch.setitem(Connection.__init__.__kwdefaults__, "close_seconds", 2 * TIMEOUT_SECONDS)


@pytest.mark.parametrize("gently", [True, False])
def test_a_dead_peer_in_the_middle_of_a_session_does_not_hold_up_the_end(
    stage: Callable[..., Stage], gently: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while a service was dead ended in 70: the goodbyes were said one after the other, each with a patience of
    its own, and together they were longer than the daemon's."""
    without_other_limits(monkeypatch)
    it = stage(deaf, deaf, mute, patience=2 * TIMEOUT_SECONDS, close_timing=CloseTiming(4.0, 4.0))
    it.say("a", "One is here.")
    assert it.servers[0].arrived.acquire(timeout=TIMEOUT_SECONDS)
    if gently:
        it.synthesizer.hush("somebody")
        it.events.await_first(UtteranceCancelled)
    began = time.monotonic()
    if gently:
        it.synthesizer.stop()
    else:
        it.synthesizer.hush("SIGTERM")
        it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))
    assert time.monotonic() - began < 7.9, "two goodbyes of four seconds each, side by side"


def test_an_abort_overtakes_a_gentle_end(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    without_other_limits(monkeypatch)
    it = stage(deaf, deaf, patience=2 * TIMEOUT_SECONDS, close_timing=CloseTiming(2 * TIMEOUT_SECONDS))
    assert it.servers[0].arrived.acquire(timeout=TIMEOUT_SECONDS)
    it.synthesizer.stop()
    it.synthesizer.abort()
    assert it.synthesizer.join(Deadline(TIMEOUT_SECONDS))


@pytest.mark.parametrize("then", [hangs_up, resets, refuses_the_text])
def test_a_connection_that_ends_between_two_sentences_costs_nothing(
    stage: Callable[..., Stage], then: Callable[[Peer], None]
) -> None:
    """The network was away for a moment after the first sentence had come whole: the rest of the reply was not said."""
    gone = threading.Event()
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
        first._speak(peer, first.passages[-1])
        gone.wait(TIMEOUT_SECONDS)
        then(peer)

    it = stage(once)
    it.synthesizer.begin(Utterance("a", None))
    it.synthesizer.append_text("a", "One is here. And")
    first.await_passages(1)
    it.events.await_first(AudioArrived)
    gone.set()
    it.await_event(lambda: it.synthesizer._session is None)  # nothing outside tells that it has been noticed
    it.synthesizer.append_text("a", " two is here. And three")
    first.await_passages(2)
    it.synthesizer.complete("a")
    end = it.events.await_first(UtterancePlayed)
    assert end.utterance == "a" and it.player.heard["a"] == sound("One is here. And two is here. And three")
    assert " ".join(" ".join(first.passages).split()) == "One is here. And two is here. And three"


def test_a_later_session_in_another_format_is_heard_at_the_right_speed(stage: Callable[..., Stage]) -> None:
    """A service answered the second sentence at 48 kHz: it was written as if it were 16 kHz, and took three times as
    long as it should."""
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
        # The sound and the goodbye in one piece: whoever has heard the one knows of the other.
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


@pytest.mark.parametrize(
    "refusal", [("429 Too Many Requests",), ("429 Too Many Requests", "Retry-After: 1"), ("503 Busy", "Retry-After: 1")]
)
def test_a_service_that_asks_for_patience_is_waited_for(stage: Callable[..., Stage], refusal: tuple[str, ...]) -> None:
    """With no other service left a 429 cost the utterance, although the service would have had it a second later."""
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


def test_a_service_that_asks_for_more_patience_than_there_is_fails_at_once(stage: Callable[..., Stage]) -> None:
    it = stage(refuses("429 Too Many Requests", "Retry-After: 60"), patience=30.0)
    began = time.monotonic()
    it.say("a", "One is here.")
    end = it.events.await_first(UtteranceFailed)
    assert time.monotonic() - began < 30.0
    due = re.search(r"the next retry is in (\d+) s, after the 30 s", end.reason)
    assert "429" in end.reason and due is not None and 30 < int(due[1]) <= 60


def test_a_service_that_is_given_up_after_a_wait_is_told_of_by_what_was_left(stage: Callable[..., Stage]) -> None:
    """It said that five seconds are longer than ten, for it had waited for six of them already."""
    asked, seconds = threading.Event(), chain(("2",), repeat("59"))

    def busy(peer: Peer) -> None:
        asked.wait(TIMEOUT_SECONDS)
        peer.answer("429 Too Many Requests", f"Retry-After: {next(seconds)}")

    it = stage(busy, patience=60.0)
    it.say("a", "One is here.")
    it.await_event(lambda: bool(it.jobs) and it.jobs[0].deadline.remaining() is not None)
    asked.set()
    end = it.events.await_first(UtteranceFailed)
    assert "after the rest of the 60 s" in end.reason


def test_where_another_service_is_left_a_busy_one_is_not_waited_for(stage: Callable[..., Stage]) -> None:
    longer = 2 * TIMEOUT_SECONDS
    it = stage(refuses("429 Too Many Requests", f"Retry-After: {longer:.0f}"), Voice(), patience=2 * longer)
    it.say("a", "One is here.")
    it.events.await_first(UtterancePlayed)
    assert it.events.of(AudioArrived) == [AudioArrived("a", "voice1")]


def test_a_passage_that_met_a_busy_service_is_asked_again_on_a_new_connection(stage: Callable[..., Stage]) -> None:
    """The refusal came as a message on the open connection: nothing had sounded yet, and the utterance was lost."""

    def too_many(peer: Peer) -> None:
        peer.send(frame(TEXT, json.dumps({"type": "error", "message": "busy", "status_code": 429}).encode()))
        peer.read_all()

    voice = Voice(after=0, then=too_many, deaths=4)  # four in a row, each soon after the dial, are no refused key
    it = stage(voice)
    it.say("a", "One is here. Two is here.")
    it.events.await_first(UtterancePlayed)
    assert it.player.heard["a"] == sound("One is here. Two is here.")
    assert [type(end) for end in it.ends()] == [UtterancePlayed]


def test_a_service_that_stays_busy_is_given_up_when_the_patience_is_over(stage: Callable[..., Stage]) -> None:
    def too_many(peer: Peer) -> None:
        peer.send(frame(TEXT, json.dumps({"type": "error", "message": "busy", "status_code": 429}).encode()))
        peer.read_all()

    it = stage(Voice(after=0, then=too_many))
    it.say("a", "One is here.")
    it.await_event(lambda: bool(it.jobs) and it.jobs[0].keeps_deadline)
    it.jobs[0].deadline = Deadline(0.2)
    assert "busy" in it.events.await_first(UtteranceFailed).reason

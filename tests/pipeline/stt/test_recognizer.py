"""The recognizer against services that are polite, silent, dying or busy: every stretch of speech gives one transcript,
and what was said while the service was away is said again."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import select
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from support.gathered import Gathered
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Scripted, close_frame, frame, mute, refuses, silent

import agent.pipeline.stt.recognizer
import agent.pipeline.stt.session
from agent.pipeline.capture.endpointer import NullEndpointer, VadEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import Gap, Heard, Partial, ServiceDown, ServiceUp, SpeechEnded, SpeechStarted
from agent.pipeline.stage import make_standby
from agent.pipeline.stt.recognizer import SETTLE_SECONDS, Recognizer
from agent.pipeline.stt.segment import SpeechSegment
from agent.pipeline.stt.session import SttSession
from agent.services.connection import closing as farewells
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby, Timing
from agent.services.connection.websocket import Connection, connect
from agent.services.protocols import transcription
from agent.services.service_log import MAX_LOG_LINES
from agent.system.threads import Backoff, Deadline

TIMEOUT_SECONDS = 60.0
FRAME = 3200
SILENCE = bytes(FRAME)


def frames(first: int, count: int) -> list[bytes]:
    """Frames that can be told apart, none of them silent."""
    return [bytes([1 + (first + number) % 250]) * FRAME for number in range(count)]


class Service:
    """A transcription service. ``heard``: the sound of each connection; ``eofs``: how many end marks each was given.

    ``dies_after``: a connection that has been given so many bytes hangs up; only the first ``deaths`` do. ``answers``:
    whether a final and an export ID follow ``eof``. ``final_each``: a final after so many bytes, ``final_words``: with
    a word that ends after half a second. ``breaks_at_eof``: the end mark is answered with the close code 1011.
    ``forgets``: with the export ID alone.
    """

    def __init__(
        self,
        *,
        dies_after: int | None = None,
        deaths: int = 0,
        answers: bool = True,
        final_each: int | None = None,
        final_words: bool = False,
        partials: bool = True,
        breaks_at_eof: bool = False,
        forgets: bool = False,
    ) -> None:
        self.heard: list[bytes] = []
        self.eofs: list[int] = []
        self.changed = threading.Condition()
        self._dies_after, self._deaths, self._answers, self._final_each = dies_after, deaths, answers, final_each
        self._words = [{"word": "all", "start": 0.0, "end": 0.5, "conf": 1.0}] if final_words else []
        self._partials = partials
        self._breaks_at_eof, self._forgets = breaks_at_eof, forgets

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        with self.changed:
            mine = len(self.heard)
            self.heard.append(b"")
            self.eofs.append(0)
            self.changed.notify_all()
        finals = 0
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(CLOSE, data))
                return
            if opcode == PING:
                peer.send(frame(PONG, data))
            elif opcode == BINARY:
                with self.changed:
                    self.heard[mine] += data
                    self.changed.notify_all()
                size = len(self.heard[mine])
                if self._partials:
                    peer.text(json.dumps({"partial": f"{size // FRAME} frames"}))
                if self._final_each and size // self._final_each > finals:
                    finals += 1
                    peer.text(json.dumps({"result": self._words, "text": f"final {finals}"}))
                if self._deaths and self._dies_after is not None and size >= self._dies_after:
                    self._deaths -= 1
                    return
            elif opcode == TEXT and data == b"eof":
                with self.changed:
                    self.eofs[mine] += 1
                    self.changed.notify_all()
                if self._breaks_at_eof:
                    peer.send(close_frame(1011))
                elif self._forgets:
                    peer.text("0b9fd2c1-5a1e-4c53-9f6e-1f7f0f1d2a3b")
                    peer.send(close_frame(1000))
                elif self._answers:
                    word = {"word": "all", "start": 0.0, "end": 0.5, "conf": 1.0}
                    peer.text(json.dumps({"result": [word], "text": f"all {len(self.heard[mine]) // FRAME} frames"}))
                    peer.text("0b9fd2c1-5a1e-4c53-9f6e-1f7f0f1d2a3b")
                    peer.send(close_frame(1000))

    def await_bytes(self, count: int) -> None:
        with self.changed:
            met = self.changed.wait_for(lambda: sum(map(len, self.heard)) >= count, TIMEOUT_SECONDS)
            assert met, [*map(len, self.heard)]

    def await_eofs(self) -> list[int]:
        """The end marks of all connections, once each has had one: a server may read it when the client has gone."""
        with self.changed:
            self.changed.wait_for(lambda: all(self.eofs), TIMEOUT_SECONDS)
            return list(self.eofs)

    def used(self) -> list[bytes]:
        """The sound of the connections that were given any."""
        return [sound for sound in self.heard if sound]


class Stage:
    def __init__(
        self,
        script: object,
        *,
        captions: bool,
        outage_seconds: float,
        answer_seconds: float,
        settle_seconds: float | None,
        dial_seconds: float,
    ) -> None:
        self.server = Scripted(script)  # type: ignore[arg-type]
        self.server.__enter__()
        self.events = Gathered()
        self.frames = FrameQueue(60.0)
        port = self.server.port

        def open(deadline: Deadline):  # type: ignore[no-untyped-def]
            return connect(transcription.Client(f"ws://127.0.0.1:{port}/", None), deadline, ping_seconds=None)

        def standby() -> Standby:
            backoff = Backoff(0.01, 0.05, seed=1)
            return make_standby(
                "transcription",
                open,
                self.events,
                eager=False,
                backoff=backoff,
                timing=Timing(dial_seconds=dial_seconds),
            )

        self.other = standby()
        turns = VadEndpointer(any, silence_seconds=0.3, turn_seconds=30.0, pre_roll_seconds=0.0)
        self.recognizer = Recognizer(
            self.frames,
            NullEndpointer() if captions else turns,
            standby(),
            self.events,
            captions=captions,
            outage_seconds=outage_seconds,
            answer_seconds=answer_seconds,
            settle_seconds=settle_seconds,
        )
        self.recognizer.start()

    def hear(self, *heard: bytes) -> None:
        for each in heard:
            self.frames.put(each)

    def end(self) -> None:
        self.recognizer.stop()
        assert self.recognizer.join(Deadline(TIMEOUT_SECONDS)), "the recognizer did not end"

    def close(self) -> None:
        self.recognizer.abort()
        assert self.recognizer.join(Deadline(TIMEOUT_SECONDS)), "the recognizer did not end"
        self.server.__exit__()


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def build(
        script: object,
        *,
        captions: bool = False,
        outage_seconds: float = 120.0,
        answer_seconds: float = 120.0,
        settle_seconds: float | None = 0.0,
        dial_seconds: float = 60.0,
    ) -> Stage:
        stages.append(
            Stage(
                script,
                captions=captions,
                outage_seconds=outage_seconds,
                answer_seconds=answer_seconds,
                settle_seconds=settle_seconds,
                dial_seconds=dial_seconds,
            )
        )
        return stages[-1]

    yield build
    for each in stages:
        each.close()


def test_a_turn_is_sent_whole_and_gives_one_transcript(stage: Callable[..., Stage]) -> None:
    service = Service()
    it = stage(service)
    said = frames(0, 10)
    it.hear(SILENCE, SILENCE, *said, SILENCE, SILENCE, SILENCE)
    heard = it.events.await_first(Heard)
    assert heard.text == "all 13 frames"
    assert heard.words == (("all", 0.0, 0.5, 1.0),)
    assert heard.export_id == "0b9fd2c1-5a1e-4c53-9f6e-1f7f0f1d2a3b"
    assert service.used() == [b"".join(said) + SILENCE * 3]
    assert [type(each) for each in it.events.of(SpeechStarted, SpeechEnded)] == [SpeechStarted, SpeechEnded]
    assert it.events.of(Partial)
    it.end()
    assert set(service.await_eofs()) == {1}
    assert len(it.events.of(Heard)) == 1


def test_every_turn_gets_a_connection_and_a_transcript_of_its_own(stage: Callable[..., Stage]) -> None:
    service = Service()
    it = stage(service)
    for number in range(3):
        it.hear(*frames(number * 10, 4 + number), SILENCE, SILENCE, SILENCE)
    it.events.await_first(Heard, 3)
    assert [heard.text for heard in it.events.of(Heard)] == ["all 7 frames", "all 8 frames", "all 9 frames"]
    assert len(service.used()) == 3


def test_what_a_lost_connection_has_not_answered_is_sent_again(stage: Callable[..., Stage]) -> None:
    service = Service(dies_after=4 * FRAME, deaths=1)
    it = stage(service)
    said = frames(0, 4)
    it.hear(*said)
    it.events.await_first(ServiceDown)
    it.hear(*frames(4, 4), SILENCE, SILENCE, SILENCE)
    assert it.events.await_first(Heard).text == "all 11 frames"
    assert service.used()[-1] == b"".join(frames(0, 8)) + SILENCE * 3
    it.end()
    assert it.events.of(Gap) == []
    assert len(it.events.of(Heard)) == 1
    assert it.events.of(ServiceUp)


def test_a_stretch_that_breaks_every_connection_is_given_up_and_told_of(stage: Callable[..., Stage]) -> None:
    service = Service(dies_after=2 * FRAME, deaths=1000)
    it = stage(service)
    it.hear(*frames(0, 6), SILENCE, SILENCE, SILENCE)
    heard = it.events.await_first(Heard)
    assert "frames" in heard.text or heard.text == ""  # the last partial counts
    assert it.events.await_first(Gap).seconds == pytest.approx(0.9)


@pytest.mark.parametrize("final_each", [None, 3 * FRAME])
@pytest.mark.parametrize("captions", [False, True])
def test_a_service_that_breaks_off_at_every_end_mark_is_given_up_however_much_it_has_said(
    stage: Callable[..., Stage], captions: bool, final_each: int | None
) -> None:
    """vosk-server closes with 1011 when it is given a bare ``eof``. What its partials had said came as a final each
    time, and each final was taken for progress: the same sound went out again and again, without end."""
    service = Service(breaks_at_eof=True, final_each=final_each)
    it = stage(service, captions=captions)
    it.hear(*frames(0, 4), SILENCE, SILENCE, SILENCE)
    it.end()
    assert sum(service.eofs) <= 5, "each try may be the one that helps, but not for ever"
    assert it.events.of(Heard) and all(each.text for each in it.events.of(Heard))
    assert len(it.events.of(Gap)) <= 1


def test_a_service_that_never_answers_costs_one_turn_and_no_more(stage: Callable[..., Stage]) -> None:
    service = Service(answers=False)
    it = stage(service, answer_seconds=0.3)
    for turn in (1, 2):
        before = len(it.events.of(Partial))
        it.hear(*frames(9 * turn, 5))
        it.events.await_first(Partial, before + 1)  # after the end mark the service is not waited for any more
        it.hear(SILENCE, SILENCE, SILENCE)
        heard = it.events.await_first(Heard, turn)
        assert heard.text == it.events.of(Partial)[-1].text and "frames" in heard.text  # the last partial is kept


@pytest.mark.parametrize("script", [refuses("403 Forbidden"), refuses("500 Oops"), mute], ids=["403", "500", "mute"])
def test_a_service_that_is_not_there_leaves_a_gap_and_an_empty_transcript(
    stage: Callable[..., Stage], script: object
) -> None:
    it = stage(script, outage_seconds=4.0, dial_seconds=2.0)  # whoever speaks may stand still in the midst of the turn
    it.hear(*frames(0, 5), SILENCE, SILENCE, SILENCE)
    assert it.events.await_first(Heard).text == ""
    gap = it.events.await_first(Gap)
    assert gap.seconds == pytest.approx(0.8) and "transcription" in gap.reason


def test_what_a_service_had_understood_before_it_went_for_good_is_kept_whole_and_it_is_not_called_back(
    stage: Callable[..., Stage],
) -> None:
    """The last partial took the place of the finals before it when a turn was given up, and counted as an answer: the
    service that could not be reached was reported to be back."""
    taken = threading.Semaphore(1)

    def leaves(peer: Peer) -> None:
        if not taken.acquire(blocking=False):
            refuses("500 Oops")(peer)
            return
        peer.accept()
        for opcode, _ in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY:
                peer.text(json.dumps({"result": [], "text": "turn on"}))
                peer.text(json.dumps({"partial": "the light"}))
                return

    it = stage(leaves, outage_seconds=1.0)
    it.hear(*frames(0, 5), SILENCE, SILENCE, SILENCE)
    assert it.events.await_first(Heard).text == "turn on the light"
    it.end()
    assert it.events.of(ServiceDown) and it.events.of(ServiceUp) == []


def test_while_the_ear_is_shut_nothing_is_heard_and_an_unfinished_turn_ends(stage: Callable[..., Stage]) -> None:
    service = Service()
    it = stage(service)
    it.hear(*frames(0, 5))
    it.events.await_first(SpeechStarted)
    service.await_bytes(5 * FRAME)
    it.recognizer.set_listening(False)
    assert it.events.await_first(Heard).text == "all 5 frames"
    it.hear(*frames(20, 5), SILENCE, SILENCE, SILENCE)
    it.end()
    assert len(it.events.of(Heard)) == 1
    assert service.used() == [b"".join(frames(0, 5))]


def test_captions_come_one_by_one_and_the_end_of_the_frames_is_the_end(stage: Callable[..., Stage]) -> None:
    service = Service(final_each=4 * FRAME)
    it = stage(service, captions=True)
    it.hear(*frames(0, 10))
    it.end()
    assert [heard.text for heard in it.events.of(Heard) if heard.text] == ["final 1", "final 2", "all 10 frames"]
    assert service.used() == [b"".join(frames(0, 10))]
    assert service.eofs[service.heard.index(service.used()[0])] == 1
    assert [heard.export_id for heard in it.events.of(Heard) if heard.export_id] != []


def test_captions_go_on_after_a_loss_without_saying_anything_twice(stage: Callable[..., Stage]) -> None:
    service = Service(dies_after=6 * FRAME, deaths=1, final_each=4 * FRAME)
    it = stage(service, captions=True)
    it.hear(*frames(0, 6))
    it.events.await_first(ServiceDown)
    it.hear(*frames(6, 1))
    it.end()
    assert [heard.text for heard in it.events.of(Heard) if heard.text][0] == "final 1"
    first, second = service.used()
    assert first == b"".join(frames(0, 6))
    # What the first final answered is not sent again; everything that came after it is.
    assert b"".join(frames(0, 7)).endswith(second)
    assert it.events.of(Gap) == []


def test_what_is_sent_faster_than_it_is_spoken_is_not_taken_for_answered(stage: Callable[..., Stage]) -> None:
    """A file waits in the socket, far ahead of the service. A final without words was taken for an answer to nearly all
    of it, and what a lost connection had not come to was never transcribed, with nothing said of it."""
    said = frames(0, 200)
    service = Service(dies_after=200 * FRAME, deaths=1, final_each=200 * FRAME)
    began = time.monotonic()
    it = stage(service, captions=True)
    it.hear(*said)
    it.events.await_first(ServiceDown)
    most_seconds = time.monotonic() - began  # no more can have been spoken until then
    it.end()
    again = service.used()[1]
    assert b"".join(said).endswith(again) and len(again) >= (200 - most_seconds * 10) * FRAME


def test_long_after_an_outage_no_more_is_sent_again_than_was_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited for the service, and was sent to it at once, was taken to be ahead of it for ever: all day that much
    was said twice after each loss, or told as lost where there was no room to keep it."""
    spoken_seconds = 0.0
    monkeypatch.setattr(agent.pipeline.stt.session, "time", SimpleNamespace(monotonic=lambda: spoken_seconds))
    stretch = SpeechSegment.of(30.0, 0.0)
    for each in frames(0, 250):
        stretch.say(each)
        stretch.next()  # to a connection that was lost
    with Scripted(Service(final_each=50 * FRAME)) as server:
        codec = transcription.Client(f"ws://127.0.0.1:{server.port}/", None)
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), ping_seconds=None)
        session = SttSession(connection, stretch, settle_seconds=0.0, answer_seconds=60.0, continued=True)
        finals, patience = 0, Deadline(TIMEOUT_SECONDS)
        for number in range(70):
            spoken_seconds += 5.0
            for each in frames(number, 50):
                stretch.say(each)
            session.send()
            while finals < 6 + number:
                assert not patience.is_expired and session.failure is None
                wait(connection, [], 1.0)
                finals += sum(transcript.is_final for transcript in session.pump())
                session.send()
        connection.abort()
    assert len(stretch.again()) <= 150 and stretch.missing() is None


def test_a_connection_that_broke_costs_nothing_of_what_was_still_to_be_sent() -> None:
    """Until its end was read it was given more and more: of a file all there was, of which only the last half minute
    could be sent again."""

    def breaks(peer: Peer) -> None:
        peer.accept()
        peer.reset()

    stretch = SpeechSegment.of(60.0, 0.0)
    for each in frames(0, 300):
        stretch.say(each)
    with Scripted(breaks) as server:
        codec = transcription.Client(f"ws://127.0.0.1:{server.port}/", None)
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), ping_seconds=None)
        gone = select.poll()
        gone.register(connection, 0)
        assert gone.poll(TIMEOUT_SECONDS * 1000)
        session = SttSession(connection, stretch, settle_seconds=0.0, answer_seconds=60.0, continued=True)
        session.send()
        assert not session.ready and stretch.frames.frame_count == 299
        assert session.pump() == [] and session.failure is not None
    assert len(stretch.again()) == 1


def test_what_captions_lose_while_the_service_is_away_is_told_once(stage: Callable[..., Stage]) -> None:
    """It was told with every round of the loop: a service that was away for a night left thirty thousand lines."""
    service, there = Service(final_each=8 * FRAME), threading.Event()

    def away(peer: Peer) -> None:
        (service if there.is_set() else refuses("500 Oops"))(peer)

    it = stage(away, captions=True)
    rounds = threading.Semaphore(0)
    it.hear(*frames(0, 1))
    deadline, pause = Deadline(TIMEOUT_SECONDS), threading.Event()
    while it.frames.frame_count:  # from then on nothing is taken until there is a session
        assert not deadline.is_expired
        pause.wait(0.01)
    it.recognizer.on_heartbeat = rounds.release
    for first, count in ((1, 699), (700, 700)):  # the queue holds a minute
        it.hear(*frames(first, count))
        for _ in range(3):
            assert rounds.acquire(timeout=TIMEOUT_SECONDS)
    assert it.events.of(Gap) == []
    there.set()
    it.end()
    (gap,) = it.events.of(Gap)
    assert gap.seconds == pytest.approx(140.0 - sum(map(len, service.heard)) / 32000)


def test_a_service_that_repeats_itself_without_end_gets_its_end_mark_all_the_same(stage: Callable[..., Stage]) -> None:
    """One that repeated its partial, as a sign of life, was let finish without end: the turn never got its transcript,
    and nobody was listened to any more."""
    ended = threading.Event()

    def chats(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.1):
                peer.text(json.dumps({"partial": "it is late"}))

    def listens(peer: Peer) -> None:
        peer.accept()
        chatting = threading.Thread(target=chats, args=[peer])
        chatting.start()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == TEXT and data == b"eof":
                ended.set()
                chatting.join()
                peer.text(json.dumps({"result": [], "text": "it is over"}))
                peer.text("0b9fd2c1-5a1e-4c53-9f6e-1f7f0f1d2a3b")
                peer.send(close_frame(1000))
        ended.set()
        chatting.join()

    it = stage(listens, settle_seconds=0.5, answer_seconds=3.0)
    it.hear(*frames(0, 5), SILENCE, SILENCE, SILENCE)
    assert it.events.await_first(Heard).text == "it is over"


def test_what_a_service_says_of_itself_does_not_flood_the_log(
    stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    def chats(peer: Peer) -> None:
        peer.accept()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY:
                for _ in range(100):
                    peer.text("control message unknown")
            elif opcode == TEXT and data == b"eof":
                peer.text(json.dumps({"result": [], "text": "it is over"}))
                peer.send(close_frame(1000))

    it = stage(chats)
    with caplog.at_level("INFO"):
        it.hear(*frames(0, 5), SILENCE, SILENCE, SILENCE)
        assert it.events.await_first(Heard).text == "it is over"
    told = [record for record in caplog.records if "control message unknown" in record.getMessage()]
    assert 0 < len(told) <= MAX_LOG_LINES


def test_an_abort_gives_the_end_mark_and_ends_soon(stage: Callable[..., Stage]) -> None:
    service = Service(answers=False)
    it = stage(service)
    it.hear(*frames(0, 5))
    it.events.await_that(Partial("5 frames"))
    it.recognizer.abort()
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS))  # half as long as the answer may take
    service.await_eofs()
    assert service.eofs[service.heard.index(service.used()[0])] == 1
    assert [heard.text for heard in it.events.of(Heard)] == ["5 frames"]


def test_ten_minutes_are_sent_again_without_breaking_the_connection() -> None:
    """All that had to be said once more was handed over at once: with a long ``outage_seconds`` that was more than a
    connection keeps, and each new one broke as the one before had."""
    listens, stretch, came = threading.Event(), SpeechSegment.of(600.0, 0.0), hashlib.sha256()

    def listens_late(peer: Peer) -> None:
        peer.accept()
        assert listens.wait(20)
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY:
                came.update(data)
            elif opcode == TEXT and data == b"eof":
                peer.text(json.dumps({"result": [], "text": came.hexdigest()}))
                peer.text("0b9fd2c1-5a1e-4c53-9f6e-1f7f0f1d2a3b")
                peer.send(close_frame(1000))

    said = frames(0, 6000)
    for each in said:
        stretch.say(each)
        stretch.next()  # to a connection that was lost
    stretch.over = True
    with Scripted(listens_late) as server:
        codec = transcription.Client(f"ws://127.0.0.1:{server.port}/", None)
        connection = connect(codec, Deadline(20.0), ping_seconds=None)
        session = SttSession(connection, stretch, settle_seconds=0.0, answer_seconds=60.0)
        session.send()
        assert not connection.is_closed, connection.close_reason
        listens.set()
        understood: list[str] = []
        patience = Deadline(60.0)
        while not session.ended and session.failure is None and not patience.is_expired:
            wait(connection, [], 1.0)
            session.send()
            understood += [transcript.text for transcript in session.pump()]
        connection.abort()
    assert session.failure is None and understood == [hashlib.sha256(b"".join(said)).hexdigest()]


def test_what_the_end_overtakes_on_its_way_is_a_gap_also_where_the_rest_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a slow line frames wait; an end that could not wait for them was answered for those before, and nobody was
    told of the others."""
    monkeypatch.setattr(agent.pipeline.stt.recognizer, "STAGE_CLOSE_SECONDS", 20.0)  # this machine may be busy
    events, service = Gathered(), Service()
    standby = make_standby("transcription", lambda deadline: connection, events, eager=False)
    recognizer = Recognizer(FrameQueue(60.0), NullEndpointer(), standby, events)
    with Scripted(service) as server:
        codec = transcription.Client(f"ws://127.0.0.1:{server.port}/", None)
        connection = connect(codec, Deadline(20.0), ping_seconds=None)
        connection._close_seconds = 20.0
        stretch = SpeechSegment.of(30.0, 0.0)
        recognizer._session = SttSession(connection, stretch, settle_seconds=0.0, answer_seconds=20.0)
        recognizer._stretches.append(stretch)
        for each in frames(0, 5):
            stretch.say(each)
        recognizer._session.send()
        for each in frames(5, 3):
            stretch.say(each)  # and not sent any more
        recognizer._leave()
    assert events.await_first(Heard).text == "all 5 frames"
    assert [(gap.start_seconds, gap.seconds) for gap in events.of(Gap)] == [(pytest.approx(0.5), pytest.approx(0.3))]


def test_a_stop_before_anything_was_said_ends_at_once(stage: Callable[..., Stage]) -> None:
    service = Service()
    it = stage(service)
    it.end()
    assert it.events.of(Heard) == []


def test_an_abort_ends_soon_whatever_the_peer_does(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepted and went deaf cost the session's goodbye, then the standby's, then the dial's, one after
    the other: the daemon could not be ended in time and left with 70."""
    # A goodbye that is not cut short by the recognizer lasts for longer than this test waits.
    monkeypatch.setattr(farewells, "BACKGROUND_CLOSE_SECONDS", 2 * TIMEOUT_SECONDS)
    monkeypatch.setitem(Connection.__init__.__kwdefaults__, "close_seconds", 2 * TIMEOUT_SECONDS)
    it = stage(silent, dial_seconds=2 * TIMEOUT_SECONDS)
    it.hear(*frames(0, 5))
    it.events.await_first(SpeechStarted)
    it.recognizer.abort()
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS))
    assert len(it.events.of(Heard)) == 1


def test_nobody_else_is_dialled_while_somebody_speaks(stage: Callable[..., Stage]) -> None:
    """A server that knows one client at a time forgot what the first had said when the next connection was opened."""
    service = Service()
    it = stage(service)
    it.hear(*frames(0, 5))
    service.await_bytes(5 * FRAME)
    assert len(service.heard) == 1
    it.hear(SILENCE, SILENCE, SILENCE)
    it.events.await_first(Heard)
    it.end()


def test_captions_that_break_off_send_again_all_that_their_words_do_not_cover(stage: Callable[..., Stage]) -> None:
    """A final was taken for an answer to all that had been sent: after a break the rest of a file was never heard."""
    service = Service(dies_after=20 * FRAME, deaths=1, final_each=20 * FRAME, final_words=True)
    it = stage(service, captions=True)
    it.hear(*frames(0, 20))
    it.events.await_first(ServiceDown)
    it.hear(*frames(20, 2))
    it.end()
    second = service.used()[1]
    # The words of the final end after half a second, so what came after that is said again.
    assert second == b"".join(frames(5, 17))
    assert it.events.of(Gap) == []


def test_a_service_that_never_answers_is_trouble_and_not_silence(stage: Callable[..., Stage]) -> None:
    """A server whose seats were all taken gave an empty transcript, as if nothing had been said."""
    it = stage(Service(answers=False, partials=False), answer_seconds=0.3)
    it.hear(*frames(0, 5), SILENCE, SILENCE, SILENCE)
    down = it.events.await_first(ServiceDown)
    assert "no transcript came" in down.reason


# --- a process that stood still


def stand_still(recognizer: Recognizer) -> None:
    """Returns when the recognizer has been told, as it goes round, and has gone round once more."""
    beats, told = itertools.count(), threading.Event()

    def beat() -> None:
        number = next(beats)
        if number == 0:
            recognizer.reset_after_suspend("a standstill of 60 s")
        elif number == 1:
            told.set()

    recognizer.on_heartbeat = beat
    assert told.wait(TIMEOUT_SECONDS)


def test_after_a_standstill_a_turn_is_given_up_and_the_next_is_sent_on_a_new_connection(
    stage: Callable[..., Stage],
) -> None:
    """The end of a question of a minute ago was sent together with what was said now, and both were answered."""
    service = Service(answers=False, partials=False)
    it = stage(service)
    it.hear(*frames(0, 5))
    service.await_bytes(5 * FRAME)
    service._answers = True
    stand_still(it.recognizer)
    assert it.events.await_first(Heard).text == ""
    assert it.events.of(Gap) == [Gap(0.0, 0.5, "a standstill of 60 s")]
    it.hear(*frames(50, 4), SILENCE, SILENCE, SILENCE)
    assert it.events.await_first(Heard, 2) and it.events.of(Heard)[1].text == "all 7 frames"
    it.end()
    assert service.used() == [b"".join(frames(0, 5)), b"".join(frames(50, 4)) + SILENCE * 3]
    assert set(service.await_eofs()) == {1}, "the connections that were not trusted got their end mark too"
    assert [type(each) for each in it.events.of(SpeechStarted, SpeechEnded)] == [SpeechStarted, SpeechEnded] * 2


@pytest.mark.parametrize("captions", [False, True])
def test_after_a_standstill_what_waited_for_a_service_is_a_gap_of_that_length(
    stage: Callable[..., Stage], captions: bool
) -> None:
    service, away = Service(), threading.Event()

    def script(peer: Peer) -> None:
        if away.is_set():
            service(peer)

    it = stage(script, captions=captions)
    it.events.await_first(ServiceDown)
    it.hear(*frames(0, 5))
    if not captions:
        it.events.await_first(SpeechStarted)
    stand_still(it.recognizer)
    it.events.await_first(Gap)
    away.set()
    it.hear(*frames(50, 4), SILENCE, SILENCE, SILENCE)
    it.end()
    assert sum(gap.seconds for gap in it.events.of(Gap)) == pytest.approx(0.5)
    assert {gap.reason for gap in it.events.of(Gap)} == {"a standstill of 60 s"}
    assert service.used() == [b"".join(frames(50, 4)) + SILENCE * 3], "nothing from before was sent"


def test_after_a_standstill_captions_go_on_and_what_was_sent_is_not_sent_again(stage: Callable[..., Stage]) -> None:
    service = Service(dies_after=6 * FRAME, deaths=1, partials=False)
    it = stage(service, captions=True)
    it.hear(*frames(0, 5))
    service.await_bytes(5 * FRAME)
    stand_still(it.recognizer)
    it.hear(*frames(5, 1))
    it.events.await_first(ServiceDown)
    it.hear(*frames(6, 4))
    it.end()
    first, second = service.used()
    assert first == b"".join(frames(0, 6)), "the connection may have outlived it"
    assert second == b"".join(frames(5, 5)), "only what came after it is sent again"
    (gap,) = it.events.of(Gap)
    assert (gap.start_seconds, gap.seconds) == (0.0, pytest.approx(0.5)) and "broke off" in gap.reason


def test_a_service_that_comes_with_a_reload_is_found_to_forget_its_last_words(stage: Callable[..., Stage]) -> None:
    """The daemon had begun with its own server, which forgets nothing; from the one that a reload brought it lost the
    last words of every turn, until it was restarted."""
    it = stage(Service(forgets=True), settle_seconds=None)
    it.recognizer.replace_service(it.other, may_lose_tail=True)
    for turn in (1, 2):  # the first may have begun with the service before
        it.hear(*frames(0, 10), SILENCE, SILENCE, SILENCE)
        it.events.await_first(Heard, turn)
    assert it.recognizer._settle_seconds == SETTLE_SECONDS
    it.end()

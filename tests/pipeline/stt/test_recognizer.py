"""The recognizer with scripted transcription services: every speech segment ends in one transcript, nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import recognizers
from support.frame_detector import FrameDetector
from support.gathered import Gathered
from support.human_voice import spoken
from support.recognizers import CurrentMelvinServer, MelvinServer
from support.scripted import BINARY, CLOSE, TEXT, Peer, Scripted, close_frame, frame, mute, refuses, silent
from support.stt_pipeline import audio_messages
from support.transcriber import ANSWERS_LATE, EXPORT_ID, FRAME_BYTES, Transcriber, final, numbered_frames
from support.vosk_model import MODEL

from agent.daemon.connection_builder import CLOSE_TIMING, STANDBY_TIMING
from agent.pipeline.capture.endpointer import NullEndpointer, VadEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.spotter import Spot
from agent.pipeline.capture.vosk_words import VoskSpotter
from agent.pipeline.capture.wake_gate import WakeGate
from agent.pipeline.events import (
    Event,
    Gap,
    Heard,
    Partial,
    ServiceDown,
    ServiceUp,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    StopWord,
    Woken,
)
from agent.pipeline.service_stage import CloseTiming
from agent.pipeline.stage import make_standby
from agent.pipeline.stt.recognizer import Recognizer
from agent.pipeline.text.wake_prefix import WakePrefix
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import DEFAULT_TIMING, Connection, ConnectionTiming, connect
from agent.services.protocols import transcription
from agent.services.service_log import MAX_LOG_LINES
from agent.system.threads import Backoff, Deadline

TIMEOUT_SECONDS = 20.0
SILENCE = bytes(FRAME_BYTES)
PAUSE = [SILENCE] * 3
SUSPEND = "suspended for 60 s"


class Stage:
    """A recognizer in front of a scripted service."""

    def __init__(
        self,
        script: Callable[[Peer], object],
        *,
        captions: bool = False,
        dial_seconds: float = TIMEOUT_SECONDS,
        connection_close_seconds: float = DEFAULT_TIMING.close_seconds,
        turn_seconds: float = 30.0,
        gate: WakeGate | None = None,
        needs_export: bool = False,
        on_event: Callable[[Event], None] = lambda event: None,
        **options: Any,
    ) -> None:
        self.server = Scripted(script)
        self.server.__enter__()
        self.events = Gathered()
        self._on_event = on_event
        self.frames = FrameQueue(60.0)
        self._dial_seconds, self._needs_export = dial_seconds, needs_export
        self._connection_timing = ConnectionTiming(ping_seconds=None, close_seconds=connection_close_seconds)
        self.detector = FrameDetector(any)
        vad = VadEndpointer(
            self.detector, silence_seconds=0.3, turn_seconds=turn_seconds, pre_roll_seconds=0.0, gate=gate
        )
        self.recognizer = Recognizer(
            self.frames,
            NullEndpointer() if captions else vad,
            self.standby(),
            self._report,
            captions=captions,
            **{"close_timing": CLOSE_TIMING, "outage_seconds": 120.0, "answer_seconds": 120.0, **options},
        )
        self.recognizer.start()

    def standby(self) -> Standby:
        codec_url = f"ws://127.0.0.1:{self.server.port}/"
        return make_standby(
            "transcription",
            lambda deadline: self._connect(transcription.Client(codec_url, needs_export=self._needs_export), deadline),
            self.events,
            eager=False,
            backoff=Backoff(0.01, 0.05),
            timing=STANDBY_TIMING._replace(dial_seconds=self._dial_seconds),
        )

    def _connect(self, codec: transcription.Client, deadline: Deadline) -> Connection:
        return connect(codec, deadline, timing=self._connection_timing, on_response=codec.receive_handshake)

    def _report(self, event: Event) -> None:
        self.events(event)
        self._on_event(event)

    def hear(self, *frames: bytes) -> None:
        for each in frames:
            self.frames.put(each)

    def texts(self) -> list[str]:
        return [heard.text for heard in self.events.of(Heard) if heard.text]

    def suspend(self) -> None:
        """Report a suspend; return after the recognizer has processed it."""
        self.after_commands(lambda: self.recognizer.reset_after_suspend(SUSPEND))

    def after_commands(self, send: Callable[[], None]) -> None:
        """Send a command; return after the recognizer has processed it."""
        beats, processed = itertools.count(), threading.Event()

        def on_beat() -> None:
            number = next(beats)
            if number == 0:
                send()
            elif number == 1:
                processed.set()

        self.recognizer.on_heartbeat = on_beat
        assert processed.wait(TIMEOUT_SECONDS)

    def end(self) -> None:
        self.recognizer.stop()
        assert self.recognizer.join(Deadline(TIMEOUT_SECONDS)), "the recognizer did not end"

    def close(self) -> None:
        self.recognizer.abort()
        assert self.recognizer.join(Deadline(TIMEOUT_SECONDS)), "the recognizer did not end"
        self.server.__exit__()


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    with contextlib.ExitStack() as stack:

        def build(script: Callable[[Peer], object], **options: Any) -> Stage:
            it = Stage(script, **options)
            stack.callback(it.close)
            return it

        yield build


# --- early finals


class EarlyTranscriber:
    """A script that answers each request for an early final, and never the end mark. Thread-safe.

    ``requests`` has the number of frames before each request; ``ends`` counts the end marks. With ``completes`` a final
    of the whole audio follows the first early final, and nothing is left for the next one.
    """

    def __init__(self, *headers: str, completes: bool = False) -> None:
        self.requests: list[int] = []
        self.ends = 0
        self._headers, self._completes = "\r\n".join(headers), completes
        self._changed = threading.Condition()

    def __call__(self, peer: Peer) -> None:
        peer.accept(self._headers)
        frames = 0
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(CLOSE, data))
                return
            frames += len(data) // FRAME_BYTES if opcode == BINARY else 0
            if data == b'{"final": 1}':
                with self._changed:
                    self.requests.append(frames)
                    self._changed.notify_all()
                early = [{"word": "all", "start": 0.0, "end": 0.5, "conf": 1.0}]
                text = "" if self._completes and len(self.requests) > 1 else f"early {frames}"
                peer.text(json.dumps({"result": early, "text": text, "early": True}))
                if self._completes and len(self.requests) == 1:
                    peer.text(json.dumps({"result": early, "text": f"final {frames}"}))
            with self._changed:
                self.ends += data == b"eof"
                self._changed.notify_all()

    def await_requests(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, TIMEOUT_SECONDS), self.requests

    def await_end(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.ends, TIMEOUT_SECONDS)


OFFERS_EARLY = ": ".join(transcription.EARLY_FINALS)


def test_early_final_is_the_transcript_if_no_speech_follows(stage: Callable[..., Stage]) -> None:
    service = EarlyTranscriber(ANSWERS_LATE, OFFERS_EARLY)
    it = stage(service)
    it.hear(*numbered_frames(0, 5), SILENCE, SILENCE)
    it.events.await_first(Partial)
    it.hear(SILENCE)
    assert it.events.await_first(Heard) == Heard("early 7", (("all", 0.0, 0.5, 1.0),))
    service.await_end()
    assert service.requests == [7]
    it.end()
    assert not it.events.of(Gap)


def test_early_final_before_more_speech_is_discarded(stage: Callable[..., Stage]) -> None:
    service = EarlyTranscriber(ANSWERS_LATE, OFFERS_EARLY)
    it = stage(service)
    it.hear(*numbered_frames(0, 5), SILENCE, SILENCE)
    service.await_requests(1)
    it.hear(*numbered_frames(5, 3), SILENCE, SILENCE)
    service.await_requests(2)
    it.hear(SILENCE)
    assert it.events.await_first(Heard).text == "early 12"
    it.end()
    assert it.texts() == ["early 12"]


def test_final_replaces_the_early_final_of_the_same_speech(stage: Callable[..., Stage]) -> None:
    service = EarlyTranscriber(ANSWERS_LATE, OFFERS_EARLY, completes=True)
    it = stage(service)
    it.hear(*numbered_frames(0, 5), SILENCE, SILENCE)
    service.await_requests(2)
    it.hear(SILENCE)
    assert it.events.await_first(Heard).text == "final 7"
    it.end()
    assert it.texts() == ["final 7"]


def test_early_final_is_reported_as_a_pause_that_speech_may_end(stage: Callable[..., Stage]) -> None:
    service = EarlyTranscriber(ANSWERS_LATE, OFFERS_EARLY)
    it = stage(service)
    it.hear(*numbered_frames(0, 5), SILENCE, SILENCE)
    assert it.events.await_first(SpeechPaused) == SpeechPaused("early 7")
    it.hear(*numbered_frames(5, 3), SILENCE, SILENCE)
    it.events.await_first(SpeechPaused, count=2)
    it.hear(SILENCE)
    assert it.events.await_first(Heard).text == "early 12"
    it.end()
    assert [type(event) for event in it.events.of(SpeechPaused, SpeechResumed, SpeechEnded)] == [
        SpeechPaused, SpeechResumed, SpeechPaused, SpeechEnded,
    ]  # fmt: skip


@pytest.mark.parametrize("header", ["Server: vosk", f"{transcription.EARLY_FINALS[0]}: no"])
def test_service_that_offers_no_early_finals_gets_no_request(stage: Callable[..., Stage], header: str) -> None:
    service = EarlyTranscriber(ANSWERS_LATE, header)
    it = stage(service)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    service.await_end()
    assert service.requests == []


def test_early_finals_are_not_requested_where_the_export_is_wanted(stage: Callable[..., Stage]) -> None:
    service = EarlyTranscriber(ANSWERS_LATE, OFFERS_EARLY)
    it = stage(service, needs_export=True)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    service.await_end()
    assert service.requests == []


# --- wake words


class FrameSpotter:
    """Finds the wake word in one frame."""

    def __init__(self, word: bytes) -> None:
        self._word = word

    def find(self, frame: bytes) -> Spot | None:
        return Spot("alexa", 1.0, after_seconds=0.2) if frame == self._word else None


def test_no_audio_is_sent_before_the_wake_word(stage: Callable[..., Stage]) -> None:
    service = Transcriber()
    before, word, question = numbered_frames(0, 30), numbered_frames(30, 1), numbered_frames(31, 5)
    it = stage(service, gate=WakeGate(lambda: FrameSpotter(word[0]), 8.0))
    it.hear(*before, *PAUSE, *before, *word, *question, *PAUSE, *before)
    assert it.events.await_first(Heard).text == "all 10 frames"
    it.end()
    assert service.used() == [b"".join([before[-1], *word, *question, *PAUSE])]
    (woken,) = it.events.of(Woken)
    assert woken.word == "alexa" and -30.0 < woken.level < 0.0 and len(it.events.of(Heard)) == 1


def test_no_audio_is_sent_before_the_wake_word_of_vosk(stage: Callable[..., Stage]) -> None:
    spotter = VoskSpotter(str(MODEL), ["computer"], 0.5)
    assert spotter.wait(60.0)
    service = Transcriber()
    it = stage(service, gate=WakeGate(lambda: spotter, 8.0))
    question = spoken("what time is it")
    pcm = bytes(32000) + spoken("the weather is nice") + bytes(48000) + spoken("computer") + bytes(9600) + question
    pcm += bytes(48000)
    it.hear(*(pcm[start : start + 3200] for start in range(0, len(pcm) - 3199, 3200)))
    it.events.await_first(Heard)
    it.end()
    [sent] = [audio for audio in service.used() if audio]
    assert [woken.word for woken in it.events.of(Woken)] == ["computer"]
    assert sent in pcm and pcm.index(sent) > pcm.index(spoken("computer")) + 0.6 * len(spoken("computer"))
    assert question in sent


def test_opened_gate_needs_no_wake_word(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(), gate=WakeGate(lambda: FrameSpotter(b""), 8.0))
    it.after_commands(lambda: it.recognizer.open_gate(5.0))
    it.hear(*numbered_frames(0, 5), *PAUSE)
    assert it.events.await_first(Heard).text == "all 8 frames"


def test_wake_word_that_begins_a_transcript_is_cut_and_reported_first(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(), split_wake_word=WakePrefix(["all"]).split)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    it.events.await_first(Heard)
    assert it.events.of(Woken, Heard) == [Woken("all"), Heard("8 frames", (), EXPORT_ID)]


def test_transcript_that_is_a_wake_word_awaits_the_question(stage: Callable[..., Stage]) -> None:
    service = Transcriber()
    gate = WakeGate(lambda: FrameSpotter(b""), 8.0)
    it = stage(service, gate=gate, split_wake_word=lambda text: ("all", "") if text == "all 8 frames" else ("", text))
    it.after_commands(lambda: it.recognizer.open_gate(5.0))
    it.hear(*numbered_frames(0, 5), *PAUSE)
    it.events.await_first(Woken)
    it.hear(*numbered_frames(5, 6), *PAUSE)
    it.events.await_first(Heard, count=2)
    assert [getattr(event, "text", "woken") for event in it.events.of(Woken, Heard)] == ["", "woken", "all 9 frames"]


def test_transcript_that_is_a_stop_word_is_reported_once(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(), find_stop_word=lambda text: "all" if text.startswith("all") else None)
    it.hear(*numbered_frames(0, 10), *PAUSE)
    it.events.await_first(Heard)
    assert it.events.of(StopWord) == [StopWord("all")]


# --- turns


def test_turn_is_sent_whole_and_gives_one_transcript(stage: Callable[..., Stage]) -> None:
    service = Transcriber()
    it = stage(service)
    it.hear(SILENCE, SILENCE, *numbered_frames(0, 10), *PAUSE)
    heard = it.events.await_first(Heard)
    assert heard == Heard("all 13 frames", (("all", 0.0, 0.5, 1.0),), EXPORT_ID)
    assert service.used() == [b"".join([*numbered_frames(0, 10), *PAUSE])]
    assert [type(each) for each in it.events.of(SpeechStarted, SpeechEnded)] == [SpeechStarted, SpeechEnded]
    assert it.events.of(Partial)
    it.end()
    assert set(service.await_end_marks()) == {1}
    assert len(it.events.of(Heard)) == 1


@pytest.mark.parametrize(
    ("frames", "answers", "turns"),
    [
        ([*numbered_frames(0, 10), *PAUSE], True, [(True, False)]),
        (numbered_frames(0, 15), True, [(True, True)]),
        ([*numbered_frames(0, 10), *PAUSE], False, [(False, False)]),
    ],
)
def test_result_of_each_turn_is_reported_to_the_detector(
    stage: Callable[..., Stage], frames: list[bytes], answers: bool, turns: list[tuple[bool, bool]]
) -> None:
    def no_words(peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        while peer.read_frame() != (TEXT, b"eof"):
            pass
        peer.text('{"text": ""}')
        peer.text(EXPORT_ID)
        peer.send(close_frame(1000))

    it = stage(Transcriber() if answers else no_words, turn_seconds=1.5)
    it.hear(*frames)
    it.events.await_first(Heard)
    it.end()
    assert it.detector.turns == turns


def test_turn_without_an_answer_says_nothing_about_its_sound(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(answers=False, partials=False), answer_seconds=0.3)
    it.hear(*numbered_frames(0, 10), *PAUSE)
    it.events.await_first(Heard)
    it.end()
    assert it.detector.turns == []


def test_every_turn_has_its_own_connection_and_transcript(stage: Callable[..., Stage]) -> None:
    service = Transcriber()
    it = stage(service)
    for number in range(3):
        it.hear(*numbered_frames(number * 10, 4 + number), *PAUSE)
    it.events.await_first(Heard, 3)
    assert it.texts() == ["all 7 frames", "all 8 frames", "all 9 frames"]
    assert len(service.used()) == 3


def test_next_connection_is_dialed_after_the_turn(stage: Callable[..., Stage]) -> None:
    """A server that serves one client at a time discards the first client's transcripts when a second one connects."""
    service = Transcriber()
    it = stage(service)
    it.hear(*numbered_frames(0, 5))
    service.await_bytes(5 * FRAME_BYTES)
    assert len(service.audio) == 1
    it.hear(*PAUSE)
    it.events.await_first(Heard)
    it.end()


def test_listening_off_ends_the_open_turn_and_discards_frames(stage: Callable[..., Stage]) -> None:
    service = Transcriber()
    it = stage(service)
    it.hear(*numbered_frames(0, 5))
    it.events.await_first(SpeechStarted)
    service.await_bytes(5 * FRAME_BYTES)
    it.recognizer.set_listening(False)
    assert it.events.await_first(Heard).text == "all 5 frames"
    it.hear(*numbered_frames(20, 5), *PAUSE)
    it.end()
    assert len(it.events.of(Heard)) == 1
    assert service.used() == [b"".join(numbered_frames(0, 5))]


# --- lost connections and services


def test_unanswered_audio_is_sent_again_after_a_lost_connection(stage: Callable[..., Stage]) -> None:
    service = Transcriber(dies_after=4 * FRAME_BYTES, deaths=1)
    it = stage(service)
    it.hear(*numbered_frames(0, 4))
    it.events.await_first(ServiceDown)
    it.hear(*numbered_frames(4, 4), *PAUSE)
    assert it.events.await_first(Heard).text == "all 11 frames"
    assert service.used()[-1] == b"".join([*numbered_frames(0, 8), *PAUSE])
    it.end()
    assert it.events.of(Gap) == [] and len(it.events.of(Heard)) == 1
    assert it.events.of(ServiceUp)


def test_segment_that_breaks_every_connection_is_given_up_with_a_gap(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(dies_after=2 * FRAME_BYTES, deaths=1000))
    it.hear(*numbered_frames(0, 6), *PAUSE)
    it.events.await_first(Heard)
    assert it.events.await_first(Gap).seconds == pytest.approx(0.9)


@pytest.mark.parametrize("final_each", [None, 3 * FRAME_BYTES])
@pytest.mark.parametrize("captions", [False, True])
def test_service_that_fails_at_every_end_mark_is_given_up(
    stage: Callable[..., Stage], captions: bool, final_each: int | None
) -> None:
    """vosk-server closes with 1011 after an ``eof`` without audio. Finals of the same audio are not progress."""
    service = Transcriber(breaks_at_end=True, final_each=final_each)
    it = stage(service, captions=captions)
    it.hear(*numbered_frames(0, 4), *PAUSE)
    it.end()
    assert sum(service.end_marks) <= 5
    assert it.events.of(Heard) and all(each.text for each in it.events.of(Heard))
    assert len(it.events.of(Gap)) <= 1


def test_service_that_never_answers_costs_one_turn_and_keeps_the_last_partial(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(answers=False), answer_seconds=0.3)
    for turn in (1, 2):
        before = len(it.events.of(Partial))
        it.hear(*numbered_frames(9 * turn, 5))
        it.events.await_first(Partial, before + 1)
        it.hear(*PAUSE)
        heard = it.events.await_first(Heard, turn)
        assert heard.text == it.events.of(Partial)[-1].text and "frames" in heard.text


def test_service_without_any_transcript_is_reported_as_down(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber(answers=False, partials=False), answer_seconds=0.3)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    assert "no transcript" in it.events.await_first(ServiceDown).reason


@pytest.mark.parametrize("script", [refuses("403 Forbidden"), refuses("500 Oops"), mute], ids=["403", "500", "mute"])
def test_unreachable_service_gives_a_gap_and_an_empty_transcript(stage: Callable[..., Stage], script: Any) -> None:
    it = stage(script, outage_seconds=4.0, dial_seconds=2.0)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    assert it.events.await_first(Heard).text == ""
    gap = it.events.await_first(Gap)
    assert gap.seconds == pytest.approx(0.8) and "transcription" in gap.reason


def test_transcript_of_a_lost_service_is_kept_and_the_service_stays_down(stage: Callable[..., Stage]) -> None:
    first = threading.Semaphore(1)

    def leave(peer: Peer) -> None:
        if not first.acquire(blocking=False):
            refuses("500 Oops")(peer)
            return
        peer.accept()
        while peer.read_frame()[0] != BINARY:
            pass
        peer.text(final("turn on", with_words=False))
        peer.text(json.dumps({"partial": "the light"}))

    it = stage(leave, outage_seconds=1.0)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    assert it.events.await_first(Heard).text == "turn on the light"
    it.end()
    assert it.events.of(ServiceDown) and it.events.of(ServiceUp) == []


def test_transcripts_keep_the_order_of_the_segments_when_a_waiting_one_is_given_up(stage: Callable[..., Stage]) -> None:
    released = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        for _, data in audio_messages(peer):
            if data == b"eof":
                assert released.wait(TIMEOUT_SECONDS)
                peer.text(final("words", with_words=False))
                peer.text(EXPORT_ID)

    it = stage(script, outage_seconds=1.0)
    for turn in range(4):
        it.hear(*numbered_frames(5 * turn, 5), *PAUSE)
    assert it.events.await_first(Gap).seconds == pytest.approx(0.8)
    released.set()
    it.end()
    assert [heard.text for heard in it.events.of(Heard)] == ["words", "", "words", "words"]


# --- captions


def test_captions_are_reported_one_by_one_until_the_frames_end(stage: Callable[..., Stage]) -> None:
    service = Transcriber(final_each=4 * FRAME_BYTES)
    it = stage(service, captions=True)
    it.hear(*numbered_frames(0, 10))
    it.end()
    assert it.texts() == ["final 1", "final 2", "all 10 frames"]
    assert service.used() == [b"".join(numbered_frames(0, 10))]
    assert service.end_marks[service.audio.index(bytearray(service.used()[0]))] == 1
    assert [heard.export_id for heard in it.events.of(Heard) if heard.export_id] != []


def test_captions_continue_after_a_loss_without_repetition(stage: Callable[..., Stage]) -> None:
    service = Transcriber(dies_after=6 * FRAME_BYTES, deaths=1, final_each=4 * FRAME_BYTES)
    it = stage(service, captions=True)
    it.hear(*numbered_frames(0, 6))
    it.events.await_first(ServiceDown)
    it.hear(*numbered_frames(6, 1))
    it.end()
    assert it.texts()[0] == "final 1"
    first, second = service.used()
    assert first == b"".join(numbered_frames(0, 6))
    assert b"".join(numbered_frames(0, 7)).endswith(second)
    assert it.events.of(Gap) == []


def test_captions_send_again_all_audio_after_the_last_word_of_a_final(stage: Callable[..., Stage]) -> None:
    service = Transcriber(dies_after=20 * FRAME_BYTES, deaths=1, final_each=20 * FRAME_BYTES, final_words=True)
    it = stage(service, captions=True)
    it.hear(*numbered_frames(0, 20))
    it.events.await_first(ServiceDown)
    it.hear(*numbered_frames(20, 2))
    it.end()
    assert service.used()[1] == b"".join(numbered_frames(5, 17)), "the word of the final ends after 0.5 s"
    assert it.events.of(Gap) == []


def test_final_without_words_does_not_confirm_audio_sent_faster_than_real_time(stage: Callable[..., Stage]) -> None:
    """A file waits in the socket buffers, far ahead of the service."""
    frames = numbered_frames(0, 200)
    service = Transcriber(dies_after=200 * FRAME_BYTES, deaths=1, final_each=200 * FRAME_BYTES)
    began = time.monotonic()
    it = stage(service, captions=True)
    it.hear(*frames)
    it.events.await_first(ServiceDown)
    elapsed = time.monotonic() - began  # the service cannot have processed more audio than this
    it.end()
    second = service.used()[1]
    assert b"".join(frames).endswith(second) and len(second) >= (200 - elapsed * 10) * FRAME_BYTES


def test_captions_report_one_gap_for_one_outage(stage: Callable[..., Stage]) -> None:
    service, is_back = Transcriber(final_each=8 * FRAME_BYTES), threading.Event()
    it = stage(lambda peer: (service if is_back.is_set() else refuses("500 Oops"))(peer), captions=True)
    rounds = threading.Semaphore(0)
    it.recognizer.on_heartbeat = rounds.release
    it.hear(*numbered_frames(0, 1))
    deadline = Deadline(TIMEOUT_SECONDS)
    while it.frames.frame_count:  # from then on the recognizer takes no frames until it has a session
        assert not deadline.is_expired and rounds.acquire(timeout=TIMEOUT_SECONDS)
    for first, count in ((1, 699), (700, 700)):  # the queue holds one minute
        it.hear(*numbered_frames(first, count))
        for _ in range(3):
            assert rounds.acquire(timeout=TIMEOUT_SECONDS)
    assert it.events.of(Gap) == []
    is_back.set()
    it.end()
    (gap,) = it.events.of(Gap)
    assert gap.seconds == pytest.approx(140.0 - sum(map(len, service.audio)) / 32000)


def test_captions_lose_no_audio_of_a_read_that_is_longer_than_the_kept_audio(stage: Callable[..., Stage]) -> None:
    """``outage_seconds`` may be shorter than the frames of one read: a file is read ten frames at a time."""
    service = Transcriber()
    it = stage(service, captions=True, outage_seconds=1.0)
    second = 10 * FRAME_BYTES
    pcm = b"".join(numbered_frames(0, 100))
    it.hear(*(pcm[at : at + second] for at in range(0, len(pcm), second)))
    it.end()
    assert (b"".join(service.used()), it.events.of(Gap)) == (pcm, [])


def test_gap_after_an_overflow_has_the_position_in_the_audio_of_the_microphone(stage: Callable[..., Stage]) -> None:
    is_back, has_all, connections = threading.Event(), threading.Event(), 0

    def serve(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1 and not is_back.is_set():
            peer.answer("500 Oops")
            return
        peer.accept(ANSWERS_LATE)
        size = 0
        for opcode, data in audio_messages(peer):
            size += len(data) if opcode == BINARY else 0
            if connections == 1 and size == 10 * FRAME_BYTES:
                word = {"word": "all", "start": 0.0, "end": 1.0, "conf": 1.0}
                peer.text(json.dumps({"result": [word], "text": "all"}))
                return
            if size == 600 * FRAME_BYTES:
                has_all.set()
            if data == b"eof":
                peer.reset()
                return

    it = stage(serve, captions=True)
    it.hear(*numbered_frames(0, 10))
    it.events.await_first(Heard)
    it.events.await_first(ServiceDown)
    it.hear(*numbered_frames(10, 700))  # the queue holds one minute
    is_back.set()
    assert has_all.wait(TIMEOUT_SECONDS)
    it.recognizer.abort()
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS))
    gaps = [(gap.start_seconds, gap.seconds) for gap in it.events.of(Gap)]
    assert gaps == [(pytest.approx(1.0), pytest.approx(10.0)), (pytest.approx(11.0), pytest.approx(60.0))]


# --- the end mark


def answer_end(peer: Peer, text: str) -> None:
    peer.text(final(text, with_words=False))
    peer.text(EXPORT_ID)
    peer.send(close_frame(1000))


def test_end_mark_is_sent_to_a_service_that_repeats_its_partial(stage: Callable[..., Stage]) -> None:
    """A repeated partial is a sign of life and must not delay the end mark without end."""
    has_ended = threading.Event()

    def repeat(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while not has_ended.wait(0.1):
                peer.text(json.dumps({"partial": "it is late"}))

    def script(peer: Peer) -> None:
        peer.accept()
        repeater = threading.Thread(target=repeat, args=[peer])
        repeater.start()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == TEXT and data == b"eof":
                has_ended.set()
                repeater.join()
                answer_end(peer, "it is over")
        has_ended.set()
        repeater.join()

    it = stage(script, answer_seconds=3.0)
    it.hear(*numbered_frames(0, 5), *PAUSE)
    assert it.events.await_first(Heard).text == "it is over"


def test_log_lines_of_a_service_are_limited(stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY:
                for _ in range(100):
                    peer.text("control message unknown")
            elif opcode == TEXT and data == b"eof":
                answer_end(peer, "it is over")

    it = stage(script)
    with caplog.at_level("INFO"):
        it.hear(*numbered_frames(0, 5), *PAUSE)
        assert it.events.await_first(Heard).text == "it is over"
    records = [record for record in caplog.records if "control message unknown" in record.getMessage()]
    assert 0 < len(records) <= MAX_LOG_LINES


# --- services that owe answers


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("server", [MelvinServer, CurrentMelvinServer])
@pytest.mark.parametrize("frame_count", [4, 17])
def test_turn_of_a_slow_service_has_each_word(
    stage: Callable[..., Stage], server: Any, blocks: bool, frame_count: int
) -> None:
    it = stage(recognizers.serving(server, 0.1, blocks=blocks))
    pcm = recognizers.speech(frame_count / 10)
    for turn in (1, 2):
        it.hear(*(pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm), FRAME_BYTES)), *PAUSE)
        assert it.events.await_first(Heard, turn).text.split() == recognizers.words_of(pcm)
    assert it.events.of(Gap) == []


def test_turn_of_a_slow_service_is_repeated_as_a_whole_after_a_loss(stage: Callable[..., Stage]) -> None:
    first = threading.Semaphore(1)

    def script(peer: Peer) -> None:
        peer.accept()
        server = MelvinServer(peer, 0.0)
        if first.acquire(blocking=False):
            server.compute = peer.reset  # type: ignore[method-assign]
        server.run()

    it = stage(script)
    pcm = recognizers.speech(1.7)
    it.hear(*(pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm), FRAME_BYTES)), *PAUSE)
    assert it.events.await_first(Heard).text.split() == recognizers.words_of(pcm)
    assert it.events.of(Gap) == []


@pytest.mark.parametrize("captions", [False, True])
def test_stop_ends_the_wait_for_a_service_that_owes_an_answer(stage: Callable[..., Stage], captions: bool) -> None:
    """The end mark is sent while the service computes, and what it has not answered is a gap."""
    end_read = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        is_first = True
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY and is_first:
                is_first = False
                peer.text(json.dumps({"partial": " word0"}))
            elif opcode == TEXT and data == b"eof":
                end_read.set()
                peer.text(EXPORT_ID)
                peer.send(close_frame(1000))

    it = stage(script, captions=captions, stop_seconds=0.3)
    it.hear(*numbered_frames(0, 20))
    it.events.await_first(Partial)
    it.end()
    assert end_read.is_set() and it.texts() == ["word0"]
    (gap,) = it.events.of(Gap)
    assert (gap.start_seconds, gap.seconds) == (pytest.approx(1.0), pytest.approx(1.0))


# --- stop and abort


def test_stop_during_a_report_wakes_the_stage(stage: Callable[..., Stage]) -> None:
    """The frames end between the last look at them and the wait; without a wake-up the end mark is one wait late."""

    def stop(event: Event) -> None:
        if isinstance(event, Partial):
            it.recognizer.stop()

    service = Transcriber()
    it = stage(service, captions=True, on_event=stop, max_wait_seconds=3600.0)
    it.hear(*numbered_frames(0, 1))
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS)), "the recognizer did not end"
    assert service.await_end_marks() == [1]
    assert it.texts() == ["all 1 frames"]


def test_stop_before_any_speech_ends_without_a_transcript(stage: Callable[..., Stage]) -> None:
    it = stage(Transcriber())
    it.end()
    assert it.events.of(Heard) == []


def test_abort_sends_the_end_mark_and_keeps_the_last_partial(stage: Callable[..., Stage]) -> None:
    service = Transcriber(answers=False)
    it = stage(service)
    it.hear(*numbered_frames(0, 5))
    it.events.await_event(Partial("5 frames"))
    it.recognizer.abort()
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS))  # half of answer_seconds
    service.await_end_marks()
    assert service.end_marks[service.audio.index(bytearray(service.used()[0]))] == 1
    assert it.texts() == ["5 frames"]


def test_abort_ends_soon_with_a_silent_peer(stage: Callable[..., Stage]) -> None:
    """The session, the standby and the dial have to be closed side by side, not one after the other."""
    it = stage(
        silent,
        dial_seconds=2 * TIMEOUT_SECONDS,
        close_timing=CLOSE_TIMING._replace(connection_seconds=2 * TIMEOUT_SECONDS),
        connection_close_seconds=2 * TIMEOUT_SECONDS,
    )
    it.hear(*numbered_frames(0, 5))
    it.events.await_first(SpeechStarted)
    it.recognizer.abort()
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS))
    assert len(it.events.of(Heard)) == 1


def test_audio_that_an_abort_overtakes_is_a_gap(stage: Callable[..., Stage]) -> None:
    """The service is slow: some frames are still unsent when the session ends, and the service answers the others."""
    may_read, is_sent = threading.Event(), threading.Event()
    received: list[int] = []

    def slow(peer: Peer) -> None:
        peer.accept()
        may_read.wait(TIMEOUT_SECONDS)
        size = 0
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY:
                size += len(data)
            elif opcode == TEXT and data == b"eof":
                received.append(size)
                answer_end(peer, "some frames")

    it = stage(
        slow,
        turn_seconds=2000.0,
        outage_seconds=1200.0,
        close_timing=CloseTiming(20.0, 20.0, 2 * TIMEOUT_SECONDS),
        connection_close_seconds=2 * TIMEOUT_SECONDS,
    )
    count = 10_000  # more than the socket buffers and the connection hold
    beats = itertools.count()
    it.recognizer.on_heartbeat = lambda: next(beats) > 3 and is_sent.set()
    for first in range(0, count, 500):
        it.hear(*numbered_frames(first, 500))
        deadline = Deadline(TIMEOUT_SECONDS)
        while it.frames.frame_count:
            assert not deadline.is_expired
            is_sent.wait(0.01)
    assert is_sent.wait(TIMEOUT_SECONDS)
    it.recognizer.abort()
    may_read.set()
    assert it.recognizer.join(Deadline(TIMEOUT_SECONDS))
    assert it.texts() == ["some frames"]
    sent = received[0] / 32000
    assert 0 < sent < count * 0.1
    gaps = it.events.of(Gap)
    assert gaps[0].start_seconds == pytest.approx(sent)
    assert sum(gap.seconds for gap in gaps) == pytest.approx(count * 0.1 - sent)


# --- suspend


def test_suspend_gives_up_the_turn_and_replaces_the_connection(stage: Callable[..., Stage]) -> None:
    service = Transcriber(answers=False, partials=False)
    it = stage(service)
    it.hear(*numbered_frames(0, 5))
    service.await_bytes(5 * FRAME_BYTES)
    service.answers = True
    it.suspend()
    assert it.events.await_first(Heard).text == ""
    assert it.events.of(Gap) == [Gap(0.0, 0.5, SUSPEND)]
    it.hear(*numbered_frames(50, 4), *PAUSE)
    assert it.events.await_first(Heard, 2).text == "all 7 frames"
    it.end()
    assert service.used() == [b"".join(numbered_frames(0, 5)), b"".join([*numbered_frames(50, 4), *PAUSE])]
    assert set(service.await_end_marks()) == {1}
    assert [type(each) for each in it.events.of(SpeechStarted, SpeechEnded)] == [SpeechStarted, SpeechEnded] * 2


@pytest.mark.parametrize("captions", [False, True])
def test_suspend_turns_unsent_audio_into_a_gap(stage: Callable[..., Stage], captions: bool) -> None:
    service, is_back = Transcriber(), threading.Event()
    it = stage(lambda peer: service(peer) if is_back.is_set() else None, captions=captions)
    it.events.await_first(ServiceDown)
    it.hear(*numbered_frames(0, 5))
    if not captions:
        it.events.await_first(SpeechStarted)
    it.suspend()
    it.events.await_first(Gap)
    is_back.set()
    it.hear(*numbered_frames(50, 4), *PAUSE)
    it.end()
    assert sum(gap.seconds for gap in it.events.of(Gap)) == pytest.approx(0.5)
    assert {gap.reason for gap in it.events.of(Gap)} == {SUSPEND}
    assert service.used() == [b"".join([*numbered_frames(50, 4), *PAUSE])]


def test_captions_after_a_suspend_do_not_send_earlier_audio_again(stage: Callable[..., Stage]) -> None:
    service = Transcriber(dies_after=6 * FRAME_BYTES, deaths=1, partials=False)
    it = stage(service, captions=True)
    it.hear(*numbered_frames(0, 5))
    service.await_bytes(5 * FRAME_BYTES)
    it.suspend()
    it.hear(*numbered_frames(5, 1))
    it.events.await_first(ServiceDown)
    it.hear(*numbered_frames(6, 4))
    it.end()
    first, second = service.used()
    assert first == b"".join(numbered_frames(0, 6)), "the connection may have survived the suspend"
    assert second == b"".join(numbered_frames(5, 5))
    (gap,) = it.events.of(Gap)
    assert (gap.start_seconds, gap.seconds) == (0.0, pytest.approx(0.5)) and "was lost" in gap.reason

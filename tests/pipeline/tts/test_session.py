"""One session with a speech service: passages in, sound out, and how it ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgpack
import pytest
from support import scripted
from support.scripted import Scripted, deaf, polite, silent
from support.voices import RATE, Voice, audio, falls_silent, hangs_up, refuses_the_text, resets, sound

from agent.audio.format import Format
from agent.errors import AudioError
from agent.pipeline.tts import session as speech
from agent.pipeline.tts.session import TtsSession
from agent.server.tts import tone
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection, connect
from agent.services.protocols import fish, neuphonic
from agent.services.service_log import MAX_LOG_LINES, MAX_REFUSED_MESSAGES
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0


@pytest.fixture
def session() -> Iterator[Callable[..., TtsSession]]:
    with ExitStack() as stack:

        def begin(
            script: Callable[[scripted.Peer], object],
            patience: float = 2 * TIMEOUT_SECONDS,
            is_single_use: bool = False,
        ) -> TtsSession:
            server = stack.enter_context(Scripted(script))
            codec = neuphonic.Client(
                f"ws://127.0.0.1:{server.port}/speak/en", "k", temperature=None, sampling_rate=RATE
            )
            codec.is_single_use = is_single_use
            connection: Connection = connect(codec, Deadline(TIMEOUT_SECONDS), ping_seconds=None)
            stack.callback(connection.abort)
            return TtsSession(connection, patience)

        yield begin


def heard(session: TtsSession) -> bytes:
    """Pumps to the end of the session and returns its sound."""
    pcm = b""
    deadline = Deadline(TIMEOUT_SECONDS)
    while not session.has_ended and session.failure is None:
        assert not deadline.is_expired, "the session did not end"
        wait(session.connection, [], min(session.next_timeout() or 1.0, 1.0))
        pcm += b"".join(session.pump())
    return pcm


def test_all_that_was_given_comes_back_as_sound(session: Callable[..., TtsSession]) -> None:
    voice = Voice()
    it = session(voice)
    it.speak(["Hello there.", "How are you?"], is_complete=True)
    assert heard(it) == sound("Hello there. How are you?")
    assert it.has_ended and it.failure is None and it.passage_count == 2 and it.format == Format(RATE)


def test_a_session_for_one_passage_takes_one_and_ends_with_it(session: Callable[..., TtsSession]) -> None:
    """With more passages waiting it was never told that it had ended, and waited for ever."""
    it = session(Voice(), is_single_use=True)
    it.speak(["Hello there.", "How are you?"], is_complete=True)
    assert heard(it) == sound("Hello there.")
    assert it.has_ended and it.passage_count == 1 and it.is_full


@pytest.mark.parametrize("then", [hangs_up, resets, falls_silent, refuses_the_text])
def test_what_goes_wrong_is_told_in_a_sentence(
    session: Callable[..., TtsSession], then: Callable[[scripted.Peer], None]
) -> None:
    it = session(Voice(after=0, then=then), patience=0.3)
    it.speak(["Hello there."], is_complete=True)
    assert heard(it) == b""
    assert it.failure is not None and it.failure.startswith("neuphonic: ") and not it.has_ended


@pytest.mark.parametrize("script", [silent, deaf], ids=["silent", "deaf"])
def test_no_sound_in_time_is_a_failure(
    session: Callable[..., TtsSession], script: Callable[[scripted.Peer], object]
) -> None:
    it = session(script, patience=0.3)
    it.speak(["Hello there."], is_complete=False)
    heard(it)
    assert it.failure == "neuphonic: no audio for 0.3 s"


def test_the_first_sound_is_waited_for_no_longer_because_a_service_may_pause_for_long() -> None:
    """Fish Audio may take half a minute for its ``finish``: a mute one was waited for twice as long as that, whatever
    the configuration granted, before the next service was asked."""
    with Scripted(silent) as server:
        codec = fish.Client(f"ws://127.0.0.1:{server.port}/v1/tts/live", "k")
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), ping_seconds=None)
        it = TtsSession(connection, 0.3)
        it.speak(["Hello there."], is_complete=True)
        assert heard(it) == b""
        assert it.failure == "fish: no audio for 0.3 s"
        connection.abort()


def test_a_session_that_goes_on_with_an_utterance_is_waited_for_as_between_two_sounds() -> None:
    """A long text is asked for in several sessions. Fish Audio may be silent for half a minute within it: where
    that was at the beginning of a session, the rest was given up, and nobody else can go on."""
    late = threading.Event()

    def speaks_late(peer: scripted.Peer) -> None:
        peer.accept()
        while b"stop" not in peer.read_frame()[1]:
            pass
        late.wait(TIMEOUT_SECONDS)
        peer.send(scripted.frame(scripted.BINARY, msgpack.packb({"event": "audio", "audio": sound("late")})))
        peer.send(scripted.frame(scripted.BINARY, msgpack.packb({"event": "finish", "reason": "stop"})))
        peer.read_frame()

    with Scripted(speaks_late) as server:
        codec = fish.Client(f"ws://127.0.0.1:{server.port}/v1/tts/live", "k", format="pcm", sample_rate=RATE)
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), ping_seconds=None)
        it = TtsSession(connection, 0.3, Format(RATE))
        it.speak(["Hello there."], is_complete=True)
        ends = Deadline(0.6)
        while not ends.is_expired:
            wait(connection, [], ends.remaining())
            assert list(it.pump()) == []
        late.set()
        assert it.failure is None and heard(it) == sound("late") and it.failure is None
        connection.abort()


def test_what_a_service_says_of_itself_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def chats(peer: scripted.Peer) -> None:
        peer.accept()
        while b"stop" not in peer.read_frame()[1]:
            pass
        for number in range(500):
            said = {"event": "log", "message": f"line {number}"}
            peer.send(scripted.frame(scripted.BINARY, msgpack.packb(said)))
        peer.send(scripted.frame(scripted.BINARY, msgpack.packb({"event": "finish", "reason": "stop"})))
        peer.read_frame()

    with Scripted(chats) as server, caplog.at_level("INFO"):
        codec = fish.Client(f"ws://127.0.0.1:{server.port}/v1/tts/live", "k")
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), ping_seconds=None)
        it = TtsSession(connection, TIMEOUT_SECONDS)
        it.speak(["Hello there."], is_complete=True)
        heard(it)
        connection.abort()
    told = [record for record in caplog.records if "line " in record.getMessage()]
    assert it.has_ended and 0 < len(told) <= MAX_LOG_LINES


def test_while_more_text_is_to_come_silence_after_sound_is_no_failure(
    session: Callable[..., TtsSession],
) -> None:
    it = session(Voice())
    it.speak(["Hello there."], is_complete=False)
    pcm, deadline = b"", Deadline(TIMEOUT_SECONDS)
    while len(pcm) < len(sound("Hello there.")):
        assert not deadline.is_expired
        wait(it.connection, [], 1.0)
        pcm += b"".join(it.pump())
    patience, it._first_audio_seconds = it._first_audio_seconds, 0.2
    ends = Deadline(0.6)
    while not ends.is_expired:
        wait(it.connection, [], ends.remaining())
        assert list(it.pump()) == []
    assert it.failure is None and not it.has_ended
    it._first_audio_seconds = patience
    it.speak(["And more."], is_complete=True)
    assert heard(it) == sound("And more.")
    assert it.has_ended


def test_messages_without_sense_are_passed_over_up_to_a_limit(session: Callable[..., TtsSession]) -> None:
    def babbles(peer: scripted.Peer) -> None:
        peer.accept()
        for _ in range(MAX_REFUSED_MESSAGES + 1):
            peer.text("no json at all")
        peer.read_all()

    it = session(babbles)
    it.speak(["Hello."], is_complete=True)
    heard(it)
    assert it.failure is not None and str(MAX_REFUSED_MESSAGES + 1) in it.failure


def test_an_echo_of_the_text_is_no_sound(session: Callable[..., TtsSession]) -> None:
    it = session(polite, patience=0.3)
    it.speak(["Hello."], is_complete=True)
    heard(it)
    assert it.failure is not None


def test_sound_that_is_none_is_an_audio_error(session: Callable[..., TtsSession]) -> None:
    def mp3_instead(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.send(audio(b"ID3\x04\x00\x00\x00\x00\x00\x21" + bytes(3000)))
        peer.read_all()

    it = session(mp3_instead)
    it.speak(["Hello."], is_complete=True)
    with pytest.raises(AudioError):
        heard(it)


def say_one(peer: scripted.Peer, *, stop: bool) -> None:
    peer.accept()
    while b"<STOP>" not in peer.read_frame()[1]:
        pass
    peer.send(audio(sound("Hello."), stop=stop))


def test_a_connection_that_breaks_after_all_was_answered_ends_the_session(
    session: Callable[..., TtsSession],
) -> None:
    """Between two sentences nothing was owed, and yet the rest of the reply was given up."""
    it = session(lambda peer: say_one(peer, stop=True))
    it.speak(["Hello."], is_complete=False)
    assert heard(it) == sound("Hello.")
    assert it.has_ended and it.failure is None


def test_a_connection_that_breaks_in_a_passage_whose_end_nobody_told_is_a_failure(
    session: Callable[..., TtsSession],
) -> None:
    it = session(lambda peer: say_one(peer, stop=False))
    it.speak(["Hello."], is_complete=False)
    heard(it)
    assert it.failure is not None and not it.has_ended


def test_a_service_that_says_everything_but_a_sound_is_given_up_in_time(session: Callable[..., TtsSession]) -> None:
    """Whatever it sent counted as a sign that its sound would come: a hundred messages were waited for, each as long as
    a first sound may take."""
    over = threading.Event()

    def chats(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        for number in range(90):
            peer.text(f"good day for the {number}th time")
            if over.wait(0.1):
                return

    it = session(chats, patience=0.5)
    it.speak(["Hello."], is_complete=False)
    heard(it)
    over.set()
    assert it.failure == "neuphonic: no audio for 0.5 s"


def test_sound_without_end_is_cut_where_no_voice_could_need_so_much(
    session: Callable[..., TtsSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that had gone mad, or had been taken over, could keep the device speaking for as long as it liked."""
    monkeypatch.setattr(speech, "AUDIO_BASE_SECONDS", 10.0)
    over = threading.Event()

    def without_end(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        with contextlib.suppress(OSError):
            while not over.is_set():
                peer.send(audio(bytes(RATE)))

    it = session(without_end)
    it.speak(["Hello there."], is_complete=False)
    seconds = len(heard(it)) / (2 * RATE)
    over.set()
    assert it.failure is not None and "more audio than" in it.failure
    assert seconds >= 10.0 + 12 * speech.AUDIO_SECONDS_PER_CHARACTER


def test_what_a_busy_service_asks_for_is_kept(session: Callable[..., TtsSession]) -> None:
    def busy(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.text('{"type": "error", "message": "busy", "status_code": 429}')
        peer.read_all()

    it = session(busy)
    it.speak(["Hello."], is_complete=True)
    heard(it)
    assert it.error is not None and it.error.is_busy and not it.error.permanent


def test_a_session_speaks_in_the_format_of_the_one_before(session: Callable[..., TtsSession]) -> None:
    it = session(Voice())
    it.format = Format(2 * RATE, 2)
    it.speak(["Hello there."], is_complete=True)
    assert len(heard(it)) == 4 * len(sound("Hello there.")) and it.format == Format(2 * RATE, 2)


def test_a_rate_that_changes_from_one_message_to_the_next_is_no_other_speed(
    session: Callable[..., TtsSession],
) -> None:
    """The rate of the first message was taken for that of all others: sound of twice the rate was heard at half the
    speed."""

    def speaks(peer: scripted.Peer) -> None:
        peer.accept()
        while b"<STOP>" not in peer.read_frame()[1]:
            pass
        peer.send(audio(tone.pcm("Hello.", RATE)))
        peer.send(audio(tone.pcm("Hello.", 2 * RATE), rate=2 * RATE))
        peer.send(audio(tone.pcm("Hello.", RATE)))
        peer.send(audio(b"", stop=True))
        peer.read_all()

    it = session(speaks)
    it.speak(["Hello."], is_complete=True)
    pcm = heard(it)
    one = sound("Hello.")
    assert len(pcm) == 3 * len(one) and it.format == Format(RATE)
    assert pcm[: len(one)] == one == pcm[2 * len(one) :]

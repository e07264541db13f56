"""One session with a speech service: passages in, audio out, and its end."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgpack
import pytest
from support import scripted
from support.scripted import Scripted, deaf, polite, silent
from support.voices import RATE, Voice, audio, falls_silent, hangs_up, refuses_the_text, resets, sound

from agent.audio.format import Format
from agent.audio.wav_writer import wav_header
from agent.errors import AudioError
from agent.pipeline.tts import session as speech
from agent.pipeline.tts.session import TtsSession
from agent.server.tts import tone
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection, ConnectionTiming, connect
from agent.services.protocols import fish, neuphonic, playai
from agent.services.service_log import MAX_LOG_LINES, MAX_REFUSED_MESSAGES
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0


@pytest.fixture
def session() -> Iterator[Callable[..., TtsSession]]:
    with ExitStack() as stack:

        def begin(
            script: Callable[[scripted.Peer], object],
            first_audio_seconds: float = 2 * TIMEOUT_SECONDS,
            is_single_use: bool = False,
        ) -> TtsSession:
            server = stack.enter_context(Scripted(script))
            codec = neuphonic.Client(
                f"ws://127.0.0.1:{server.port}/speak/en", "k", temperature=None, sampling_rate=RATE
            )
            codec.is_single_use = is_single_use
            connection: Connection = connect(
                codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None)
            )
            stack.callback(connection.abort)
            return TtsSession(connection, first_audio_seconds)

        yield begin


def heard(session: TtsSession) -> bytes:
    """Drive the session to its end; return its audio."""
    pcm = b""
    deadline = Deadline(TIMEOUT_SECONDS)
    while not session.has_ended and session.failure is None:
        assert not deadline.is_expired, "the session did not end"
        wait(session.connection, [], min(session.next_timeout() or 1.0, 1.0))
        pcm += b"".join(session.pump())
    return pcm


def test_passages_return_as_audio(session: Callable[..., TtsSession]) -> None:
    voice = Voice()
    it = session(voice)
    it.speak(["Hello there.", "How are you?"], is_complete=True)
    assert heard(it) == sound("Hello there. How are you?")
    assert it.has_ended and it.failure is None and it.passage_count == 2 and it.format == Format(RATE)


def test_single_use_session_ends_after_one_passage(session: Callable[..., TtsSession]) -> None:
    it = session(Voice(), is_single_use=True)
    it.speak(["Hello there.", "How are you?"], is_complete=True)
    assert heard(it) == sound("Hello there.")
    assert it.has_ended and it.passage_count == 1 and it.is_full


@pytest.mark.parametrize("then", [hangs_up, resets, falls_silent, refuses_the_text])
def test_failure_names_the_service(session: Callable[..., TtsSession], then: Callable[[scripted.Peer], None]) -> None:
    it = session(Voice(after=0, then=then), first_audio_seconds=0.3)
    it.speak(["Hello there."], is_complete=True)
    assert heard(it) == b""
    assert it.failure is not None and it.failure.startswith("neuphonic: ") and not it.has_ended


@pytest.mark.parametrize("script", [silent, deaf], ids=["silent", "deaf"])
def test_missing_audio_fails_after_the_limit(
    session: Callable[..., TtsSession], script: Callable[[scripted.Peer], object]
) -> None:
    it = session(script, first_audio_seconds=0.3)
    it.speak(["Hello there."], is_complete=False)
    heard(it)
    assert it.failure == "neuphonic: no audio for 0.3 s"


def test_error_of_an_unknown_context_is_the_reason_after_the_limit(session: Callable[..., TtsSession]) -> None:
    def fails(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        fields = {"type": "error", "message": "out of memory", "context_id": "trace-4711"}
        peer.send(scripted.frame(scripted.TEXT, json.dumps(fields).encode()))
        peer.read_all()

    it = session(fails, first_audio_seconds=3.0)
    it.speak(["Hello there."], is_complete=True)
    assert heard(it) == b"" and it.failure is not None and "out of memory" in it.failure


def test_message_that_arrives_slowly_is_no_silence(
    session: Callable[..., TtsSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service without stop flags ends with a silence: not in the middle of a message."""
    monkeypatch.setattr(neuphonic, "_PAUSE_SECONDS", 0.2)
    first, second, third = sound("one"), sound("two three four"), sound("five")

    def script(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.send(without_stop(first))
        slow, pace = without_stop(second), threading.Event()
        for at in range(0, len(slow), len(slow) // 10):
            pace.wait(0.1)
            peer.send(slow[at : at + len(slow) // 10])
        peer.send(without_stop(third))
        peer.read_frame()

    it = session(script)
    it.speak(["Hello there."], is_complete=True)
    assert heard(it) == first + second + third


def without_stop(pcm: bytes) -> bytes:
    data = {"audio": base64.b64encode(pcm).decode(), "sampling_rate": RATE}
    return scripted.frame(scripted.TEXT, json.dumps({"data": data}).encode())


def test_more_than_two_channels_are_mixed_to_one(session: Callable[..., TtsSession]) -> None:
    def surround(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.send(without_stop(wav_header(Format(RATE, 3), None) + b"\1\2" * 3 * 1000))
        peer.send(scripted.frame(scripted.TEXT, b'{"data": {"audio": "", "stop": true}}'))
        peer.read_frame()

    it = session(surround, is_single_use=True)
    it.speak(["Hello there."], is_complete=True)
    assert heard(it) == b"\1\2" * 1000 and it.format == Format(RATE)


def test_limit_for_the_first_audio_applies_after_a_chime() -> None:
    """A chime has set the format, and another service can still speak the text."""
    with Scripted(silent) as server:
        codec = fish.Client(f"ws://127.0.0.1:{server.port}/v1/tts/live", "k")
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None))
        it = TtsSession(connection, 0.3, Format(RATE))
        it.speak(["Hello there."], is_complete=True)
        assert heard(it) == b"" and it.failure == "fish: no audio for 0.3 s"
        connection.abort()


def test_header_without_audio_does_not_end_the_wait_for_audio() -> None:
    def announces(peer: scripted.Peer) -> None:
        peer.accept()
        request = json.loads(peer.read_frame()[1])
        start = {"type": "start", "request_id": request["request_id"]}
        peer.send(scripted.frame(scripted.TEXT, json.dumps(start).encode()))
        peer.send(scripted.frame(scripted.BINARY, wav_header(Format(RATE), None)))
        peer.read_frame()

    with Scripted(announces) as server:
        codec = playai.Client(f"ws://127.0.0.1:{server.port}/v1", voice="v")
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None))
        it = TtsSession(connection, 0.5)
        it.speak(["Hello there."], is_complete=False)  # more text may follow
        assert heard(it) == b"" and it.failure == "playai: no audio for 0.5 s"
        connection.abort()


def test_limit_for_the_first_audio_ignores_the_receive_timeout_of_the_codec() -> None:
    """Fish Audio may pause for half a minute before ``finish``."""
    with Scripted(silent) as server:
        codec = fish.Client(f"ws://127.0.0.1:{server.port}/v1/tts/live", "k")
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None))
        it = TtsSession(connection, 0.3)
        it.speak(["Hello there."], is_complete=True)
        assert heard(it) == b""
        assert it.failure == "fish: no audio for 0.3 s"
        connection.abort()


@pytest.mark.parametrize("service", ["playai", "fish"])
def test_limit_for_the_first_audio_may_be_longer_than_the_limits_of_the_codec(service: str) -> None:
    with Scripted(silent) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        codec = fish.Client(url, "k") if service == "fish" else playai.Client(url, "voice")
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None))
        it = TtsSession(connection, 120.0)
        it.speak(["Hello there."], is_complete=True)
        remaining = it.next_timeout()
        assert remaining is not None and remaining > 30.0
        connection.abort()


@pytest.mark.parametrize("has_flags", [True, False])
def test_limit_for_the_first_audio_is_no_limit_for_gaps(session: Callable[..., TtsSession], has_flags: bool) -> None:
    def speaks_once(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.send(audio(sound("one")) if has_flags else without_stop(sound("one")))
        peer.read_all()

    it = session(speaks_once, first_audio_seconds=1.0)
    it.speak(["Hello there."], is_complete=False)
    deadline = Deadline(TIMEOUT_SECONDS)
    pcm = b""
    while not pcm and not deadline.is_expired:
        wait(it.connection, [], 1.0)
        pcm = b"".join(it.pump())
    it.speak(["How are you?"], is_complete=False)
    remaining = it.next_timeout()
    assert pcm and remaining is not None and remaining > 1.0


def test_later_session_of_an_utterance_may_take_longer_than_its_first_audio() -> None:
    """Fish Audio may pause for half a minute within a text, also at the start of its second session."""
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
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None))
        it = TtsSession(connection, 0.3, Format(RATE), can_fall_back=False)
        it.speak(["Hello there."], is_complete=True)
        ends = Deadline(0.6)
        while not ends.is_expired:
            wait(connection, [], ends.remaining())
            assert list(it.pump()) == []
        late.set()
        assert it.failure is None and heard(it) == sound("late") and it.failure is None
        connection.abort()


def test_log_lines_of_a_service_are_limited(caplog: pytest.LogCaptureFixture) -> None:
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
        connection = connect(codec, Deadline(TIMEOUT_SECONDS), timing=ConnectionTiming(ping_seconds=None))
        it = TtsSession(connection, TIMEOUT_SECONDS)
        it.speak(["Hello there."], is_complete=True)
        heard(it)
        connection.abort()
    lines = [record for record in caplog.records if "line " in record.getMessage()]
    assert it.has_ended and 0 < len(lines) <= MAX_LOG_LINES


def test_silence_after_audio_is_accepted_while_text_is_incomplete(
    session: Callable[..., TtsSession],
) -> None:
    it = session(Voice(), first_audio_seconds=2.0)
    it.speak(["Hello there."], is_complete=False)
    pcm, deadline = b"", Deadline(TIMEOUT_SECONDS)
    while len(pcm) < len(sound("Hello there.")):
        assert not deadline.is_expired
        wait(it.connection, [], 1.0)
        pcm += b"".join(it.pump())
    ends = Deadline(2.5)
    while not ends.is_expired:
        wait(it.connection, [], ends.remaining())
        assert list(it.pump()) == []
    assert it.failure is None and not it.has_ended
    it.speak(["And more."], is_complete=True)
    assert heard(it) == sound("And more.")
    assert it.has_ended


def test_invalid_messages_are_ignored_up_to_a_limit(session: Callable[..., TtsSession]) -> None:
    def babbles(peer: scripted.Peer) -> None:
        peer.accept()
        for _ in range(MAX_REFUSED_MESSAGES + 1):
            peer.text("no json at all")
        peer.read_all()

    it = session(babbles)
    it.speak(["Hello."], is_complete=True)
    heard(it)
    assert it.failure is not None and str(MAX_REFUSED_MESSAGES + 1) in it.failure


def test_echo_of_the_text_is_not_audio(session: Callable[..., TtsSession]) -> None:
    it = session(polite, first_audio_seconds=0.3)
    it.speak(["Hello."], is_complete=True)
    heard(it)
    assert it.failure is not None


def test_undecodable_audio_raises_audio_error(session: Callable[..., TtsSession]) -> None:
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


def test_connection_lost_after_all_answers_ends_the_session(
    session: Callable[..., TtsSession],
) -> None:
    it = session(lambda peer: say_one(peer, stop=True))
    it.speak(["Hello."], is_complete=False)
    assert heard(it) == sound("Hello.")
    assert it.has_ended and it.failure is None


def test_connection_lost_in_an_unfinished_passage_is_a_failure(
    session: Callable[..., TtsSession],
) -> None:
    it = session(lambda peer: say_one(peer, stop=False))
    it.speak(["Hello."], is_complete=False)
    heard(it)
    assert it.failure is not None and not it.has_ended


@pytest.mark.parametrize("marks_ends", [True, False])
def test_normal_close_after_a_silence_is_an_end_unless_the_service_owes_one(
    session: Callable[..., TtsSession], monkeypatch: pytest.MonkeyPatch, marks_ends: bool
) -> None:
    """A service that marks the end of each passage and has not done so has cut the passage."""
    monkeypatch.setattr(speech, "SETTLED_SECONDS", 0.0)

    def half(peer: scripted.Peer) -> None:
        peer.accept()
        while b"<STOP>" not in peer.read_frame()[1]:
            pass
        data: dict[str, object] = {"audio": base64.b64encode(sound("Hello.")).decode()}
        peer.text(json.dumps({"data": {**data, "stop": False} if marks_ends else data}))
        peer.send(scripted.close_frame(1000))

    it = session(half)
    it.speak(["Hello."], is_complete=False)
    assert heard(it) == sound("Hello.")
    assert it.has_ended is not marks_ends and (it.failure is not None) is marks_ends


def test_messages_without_audio_do_not_extend_the_limit(session: Callable[..., TtsSession]) -> None:
    over = threading.Event()

    def chats(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        for number in range(90):
            peer.text(f"good day for the {number}th time")
            if over.wait(0.1):
                return

    it = session(chats, first_audio_seconds=0.5)
    it.speak(["Hello."], is_complete=False)
    heard(it)
    over.set()
    assert it.failure == "neuphonic: no audio for 0.5 s"


def test_endless_audio_is_cut(session: Callable[..., TtsSession], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_busy_message_is_a_temporary_error(session: Callable[..., TtsSession]) -> None:
    def busy(peer: scripted.Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.text('{"type": "error", "message": "busy", "status_code": 429}')
        peer.read_all()

    it = session(busy)
    it.speak(["Hello."], is_complete=True)
    heard(it)
    assert it.error is not None and it.error.is_busy and not it.error.permanent


def test_audio_is_converted_to_the_format_of_the_utterance(session: Callable[..., TtsSession]) -> None:
    it = session(Voice())
    it.format = Format(2 * RATE, 2)
    it.speak(["Hello there."], is_complete=True)
    assert len(heard(it)) == 4 * len(sound("Hello there.")) and it.format == Format(2 * RATE, 2)


def test_changed_sample_rate_is_converted(
    session: Callable[..., TtsSession],
) -> None:

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

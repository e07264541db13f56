"""One session with the transcription service: replay, flow control and the estimate of the answered audio."""

from __future__ import annotations

import hashlib
import json
import select
import threading
from collections.abc import Callable
from typing import cast

import pytest
from support.scripted import BINARY, TEXT, Peer, Scripted, close_frame
from support.transcriber import ANSWERS_LATE, EXPORT_ID, FRAME_BYTES, Transcriber, final, numbered_frames

from agent.pipeline.stt.segment import SpeechSegment
from agent.pipeline.stt.session import SttSession
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection, ConnectionTiming, connect
from agent.services.protocols import transcription
from agent.services.protocols.codec import Event
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0


def connected(server: Scripted) -> Connection:
    codec = transcription.Client(f"ws://127.0.0.1:{server.port}/", None)
    timing = ConnectionTiming(ping_seconds=None)
    return connect(codec, Deadline(TIMEOUT_SECONDS), timing=timing, on_response=codec.receive_handshake)


def wait_for(session: SttSession) -> None:
    timeout = session.next_timeout()
    wait(session.connection, [], 1.0 if timeout is None else timeout)


def run(session: SttSession, is_done: Callable[[], bool]) -> list[str]:
    """Drive the session; return the texts of its final transcripts."""
    finals: list[str] = []
    deadline = Deadline(TIMEOUT_SECONDS)
    while not is_done() and not session.has_ended:
        assert not deadline.is_expired and session.failure is None
        wait_for(session)
        session.send()
        finals += [transcript.text for transcript in session.pump() if transcript.is_final]
    return finals


def test_loss_after_a_long_outage_misses_only_the_audio_around_the_last_final() -> None:
    """Audio that was sent faster than real time after an outage must not count as unanswered forever."""
    now = 0.0
    segment = SpeechSegment(30.0)
    for frame in numbered_frames(0, 250):
        segment.append(frame)
        segment.next_audio()  # to a connection that was lost
    finals = 0
    transcriber = Transcriber(final_each=50 * FRAME_BYTES, partials=False)
    with Scripted(transcriber) as server:
        connection = connected(server)
        session = SttSession(connection, segment, answer_seconds=60.0, confirms_finals=True, clock=lambda: now)
        deadline = Deadline(TIMEOUT_SECONDS)
        for number in range(70):
            now += 5.0
            for frame in numbered_frames(number, 50):
                segment.append(frame)
            session.send()
            while finals < 6 + number:
                assert not deadline.is_expired and session.failure is None
                wait_for(session)
                finals += sum(transcript.is_final for transcript in session.pump())
                session.send()
        connection.abort()
    start, seconds = segment.take_replay_gap() or (0.0, 0.0)
    segment.replay()
    # The finals have no position: where the audio that they cover ends is uncertain, and no word may be repeated.
    assert seconds <= 15.0 and start + seconds + segment.pending_count * 0.1 == pytest.approx(segment.seconds)
    assert segment.pending_count <= 1


def test_session_sends_nothing_more_to_a_closed_connection() -> None:
    """Frames that are sent to a closed connection fill the replay buffer, and older frames are lost."""

    def reset(peer: Peer) -> None:
        peer.accept()
        peer.reset()

    segment = SpeechSegment(60.0)
    for frame in numbered_frames(0, 300):
        segment.append(frame)
    with Scripted(reset) as server:
        connection = connected(server)
        hangup = select.poll()
        hangup.register(connection, 0)
        assert hangup.poll(TIMEOUT_SECONDS * 1000)
        session = SttSession(connection, segment, answer_seconds=60.0, confirms_finals=True)
        session.send()
        assert not session.is_ready and segment.unsent_count == 290
        assert session.pump() == [] and session.failure is not None


def test_replay_of_ten_minutes_does_not_overflow_the_connection() -> None:
    """A connection fails if more data waits in it than its limit; the replay has to wait for a slow service."""
    may_read, digest = threading.Event(), hashlib.sha256()

    def read_late(peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        assert may_read.wait(20)
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == BINARY:
                digest.update(data)
            elif opcode == TEXT and data == b"eof":
                peer.text(final(digest.hexdigest(), with_words=False))
                peer.text(EXPORT_ID)
                peer.send(close_frame(1000))

    frames = numbered_frames(0, 6000)
    segment = SpeechSegment(600.0)
    for frame in frames:
        segment.append(frame)
        segment.next_audio()  # to a connection that was lost
    segment.is_complete = True
    with Scripted(read_late) as server:
        connection = connected(server)
        session = SttSession(connection, segment, answer_seconds=60.0)
        session.send()
        assert not connection.is_closed, connection.close_reason
        may_read.set()
        finals = run(session, lambda: False)
        connection.abort()
    assert finals == [hashlib.sha256(b"".join(frames)).hexdigest()]


class Loopback:
    """A connection without a socket: ``messages`` are received by the next ``pump``."""

    service, close_reason = "transcription", ""
    is_closed = False
    unsent_bytes = answered_ping = 0

    def __init__(self, codec: transcription.Client) -> None:
        self.codec = codec
        self.messages: list[str] = []

    def send(self, event: Event) -> bool:
        self.codec.send(event)
        return True

    def pump(self) -> list[Event]:
        messages, self.messages = self.messages, []
        return [event for message in messages for event in self.codec.receive(message)]


def test_final_after_discarded_audio_confirms_the_audio_of_its_words() -> None:
    """Word times count the audio of the session; audio that a suspend has discarded is not part of it."""
    codec = transcription.Client("ws://x/")
    name, value = transcription.LATE_ANSWERS
    codec.receive_handshake({name.lower(): value})
    segment, connection = SpeechSegment(30.0), Loopback(codec)
    session = SttSession(cast("Connection", connection), segment, answer_seconds=10.0, confirms_finals=True)
    for frame in numbered_frames(0, 10):
        segment.append(frame)
    session.send()
    for frame in numbered_frames(10, 50):
        segment.append(frame)
    assert segment.discard_pending() == [(pytest.approx(1.0), pytest.approx(5.0))]
    for frame in numbered_frames(60, 20):
        segment.append(frame)
    session.send()
    word = {"word": "late", "start": 2.0, "end": 2.9, "conf": 1.0}
    connection.messages = [json.dumps({"result": [word], "text": "late"})]
    assert [transcript.text for transcript in session.pump()] == ["late"]
    segment.replay()
    assert segment.pending_count == 1 and segment.replay_from_seconds == pytest.approx(7.9)


def test_session_of_vosk_that_stops_to_reply_fails_while_audio_follows() -> None:
    """Captions have no end of audio at which the missing replies would be noticed."""
    now = 0.0
    connection, segment = Loopback(transcription.Client("ws://x/", dialect="vosk")), SpeechSegment(30.0)
    session = SttSession(
        cast("Connection", connection), segment, answer_seconds=5.0, confirms_finals=True, clock=lambda: now
    )

    def hear(seconds: int, *, replies: bool) -> None:
        nonlocal now
        for frame in numbered_frames(0, seconds * 10):
            now += 0.1
            segment.append(frame)
            session.send()
            connection.messages = ['{"partial": ""}'] * replies
            session.pump()

    hear(60, replies=True)
    now += 600.0  # muted
    hear(4, replies=False)
    assert session.failure is None
    hear(2, replies=False)
    assert session.failure is not None and session.failure.startswith("no message within 5 s")

"""One session with the transcription service: replay, flow control and the estimate of the answered audio."""

from __future__ import annotations

import hashlib
import select
import threading
from collections.abc import Callable

import pytest
from support.scripted import BINARY, TEXT, Peer, Scripted, close_frame
from support.transcriber import ANSWERS_LATE, EXPORT_ID, FRAME_BYTES, Transcriber, final, numbered_frames

from agent.pipeline.stt.segment import SpeechSegment
from agent.pipeline.stt.session import SttSession
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection, ConnectionTiming, connect
from agent.services.protocols import transcription
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

"""Background closing: parallel, within its deadline whatever the peers do, one end mark each, failures logged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.plain import END_MARK, Plain
from support.scripted import CLOSE, TEXT, Peer, Scripted, deaf, frame, mute

from agent.daemon.connection_builder import STANDBY_TIMING
from agent.daemon.shutdown import CONNECTION_CLOSE_SECONDS
from agent.services.connection.closing import AdjustableDeadline, BackgroundCloser
from agent.services.connection.dial import dial
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import Connection, ConnectionTiming
from agent.services.protocols.codec import Text
from agent.system.threads import Backoff, Deadline

FAR_SECONDS = 300.0
"""Longer than any test."""


class NeverCloses:
    """Script that reads everything and never answers the close; records the texts of each connection."""

    def __init__(self) -> None:
        self.texts: dict[int, list[bytes]] = {}
        self.end_mark_received = threading.Semaphore(0)

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        texts = self.texts.setdefault(peer.index, [])
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == TEXT:
                texts.append(data)
            if data == END_MARK.encode():
                self.end_mark_received.release()

    def end_marks(self) -> list[int]:
        return [texts.count(END_MARK.encode()) for texts in self.texts.values()]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_connection(server: Scripted, deadline: Deadline | None = None) -> Connection:
    codec = Plain(server.url)
    sock = dial(codec.handshake(), "plain", deadline or Deadline(30.0))
    return Connection(sock, codec, ConnectionTiming(ping_seconds=None, close_seconds=FAR_SECONDS))


def open_full_connection(server: Scripted) -> Connection:
    """Return a connection whose send buffer the peer does not read."""
    connection = open_connection(server)
    for _ in range(100):
        connection.send(Text("x" * 100_000))
    assert connection.unsent_bytes
    return connection


def open_standby(server: Scripted, *, ready: bool = True) -> Standby:
    standby = Standby(
        "plain",
        lambda deadline: open_connection(server, deadline),
        lambda error: None,
        lambda tries: None,
        backoff=Backoff(0.01, 0.02),
        timing=STANDBY_TIMING._replace(close_seconds=FAR_SECONDS),
    )
    standby.maintain()
    deadline = Deadline(30.0)
    while ready and len(standby.waitables()) < 2:
        assert not deadline.is_expired
        wait(None, list(standby.waitables()), 0.2)
        standby.maintain()
    return standby


def join_closing_threads() -> None:
    """Wait for threads that a ``join`` with an expired deadline has left behind."""
    for thread in threading.enumerate():
        if thread.name == "plain close":
            thread.join(30)
            assert not thread.is_alive()


def test_close_all_ends_within_one_deadline_although_no_peer_answers(stack: ExitStack) -> None:
    script = NeverCloses()
    server = stack.enter_context(Scripted(script, timeout_seconds=FAR_SECONDS))
    dead = stack.enter_context(Scripted(mute, timeout_seconds=FAR_SECONDS))
    standbys = [open_standby(server), open_standby(server), *(open_standby(dead, ready=False) for _ in range(2))]
    closer = BackgroundCloser(FAR_SECONDS)
    closer.close_connection(open_connection(server))
    start = time.monotonic()
    closer.close_all(open_connection(server), standbys, Deadline(0.5))
    assert time.monotonic() - start < 60
    join_closing_threads()
    dead.over.set()
    server.over.set()
    server.join()
    assert len(script.texts) >= 4 and set(script.end_marks()) == {1}


def test_expire_by_shortens_close_all_in_progress(stack: ExitStack) -> None:
    script = NeverCloses()
    server = stack.enter_context(Scripted(script, timeout_seconds=FAR_SECONDS))
    deadline = AdjustableDeadline(FAR_SECONDS)
    ended = threading.Event()

    def close_all() -> None:
        BackgroundCloser(FAR_SECONDS).close_all(open_connection(server), [open_standby(server)], deadline)
        ended.set()

    thread = threading.Thread(target=close_all)
    thread.start()
    for _ in range(2):
        assert script.end_mark_received.acquire(timeout=30)
    assert not ended.is_set()
    deadline.expire_by(Deadline(0.1))
    thread.join(60)
    assert ended.is_set()


def test_close_all_returns_the_events_that_arrive_with_the_close(stack: ExitStack) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(TEXT, b"last words") + frame(CLOSE, data))
                return

    server = stack.enter_context(Scripted(script))
    assert Text("last words") in BackgroundCloser(CONNECTION_CLOSE_SECONDS).close_all(
        open_connection(server), [], Deadline(60.0)
    )


@pytest.mark.parametrize(
    "close",
    [BackgroundCloser.close_connection, lambda closer, connection: closer.close_all(connection, [], Deadline(0.2))],
)
def test_undelivered_end_mark_is_logged(
    stack: ExitStack, caplog: pytest.LogCaptureFixture, close: Callable[[BackgroundCloser, Connection], object]
) -> None:
    connection = open_full_connection(stack.enter_context(Scripted(deaf, receive_bytes=4096)))
    closer = BackgroundCloser(CONNECTION_CLOSE_SECONDS)
    with caplog.at_level(logging.WARNING):
        close(closer, connection)
        closer.join(Deadline(0.2))
        join_closing_threads()
    assert [record for record in caplog.records if "end mark not delivered" in record.getMessage()]


@pytest.mark.parametrize("reads", [True, False])
def test_end_mark_is_written_once_when_no_thread_can_be_created(
    stack: ExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    script = NeverCloses()
    server = stack.enter_context(Scripted(script if reads else deaf, receive_bytes=4096))
    connection = open_connection(server) if reads else open_full_connection(server)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(threading.Thread, "start", refuse)
        BackgroundCloser(CONNECTION_CLOSE_SECONDS).close_connection(connection)
    assert connection.is_closed
    server.over.set()
    server.join()
    messages = [record.getMessage() for record in caplog.records]
    if reads:
        assert script.end_marks() == [1] and messages == []
    else:
        assert len(messages) == 1 and "end mark not delivered" in messages[0]

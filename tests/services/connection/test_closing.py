"""Goodbyes side by side: over in time whatever the peers do, the end mark tried once, and told of where it failed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.plain import END_MARK, Plain
from support.scripted import CLOSE, TEXT, Peer, Scripted, frame, mute

from agent.pipeline.stage import make_standby
from agent.services.connection import closing as farewells
from agent.services.connection.closing import AdjustableDeadline, BackgroundCloser
from agent.services.connection.dial import dial
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import Connection
from agent.services.protocols.codec import Text
from agent.system.threads import Backoff, Deadline

FAR_SECONDS = 300.0
"""No test lasts so long: what waits that long is ended by something else."""


class Stubborn:
    """Reads everything and never says goodbye; remembers what each connection was told."""

    def __init__(self) -> None:
        self.told: dict[int, list[bytes]] = {}
        self.marked = threading.Semaphore(0)  # by each end mark

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        mine = self.told.setdefault(peer.index, [])
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == TEXT:
                mine.append(data)
            if data == END_MARK.encode():
                self.marked.release()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def wait_for_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A goodbye ends with its deadline, and never by itself."""
    monkeypatch.setattr(farewells, "BACKGROUND_CLOSE_SECONDS", FAR_SECONDS)


def opened(server: Scripted, deadline: Deadline) -> Connection:
    codec = Plain(server.url)
    return Connection(dial(codec.handshake(), "plain", deadline), codec, ping_seconds=None, close_seconds=FAR_SECONDS)


def dialled(server: Scripted) -> Connection:
    return opened(server, Deadline(30.0))


def all_gone() -> None:
    """Waits for the goodbyes under way: who joins them does so no longer than its deadline says."""
    for thread in threading.enumerate():
        if thread.name == "plain end":
            thread.join(30)
            assert not thread.is_alive()


def standby(server: Scripted, *, ready: bool = True) -> Standby:
    made = make_standby(
        "plain",
        lambda deadline: opened(server, deadline),
        lambda event: None,
        backoff=Backoff(0.01, 0.02),
    )
    made.maintain()
    patience = Deadline(30.0)
    while ready and len(made.waitables()) < 2:
        assert not patience.is_expired
        wait(None, list(made.waitables()), 0.2)
        made.maintain()
    return made


def marks(stubborn: Stubborn) -> list[int]:
    return [told.count(END_MARK.encode()) for told in stubborn.told.values()]


@pytest.mark.usefixtures("wait_for_device")
def test_a_stage_leaves_all_its_dead_peers_at_once_under_one_deadline(stack: ExitStack) -> None:
    """SIGTERM with a dead peer ended in 70: the live connection took its second, then each standby two, then the
    goodbyes under way two more, one after the other and past the daemon's own deadline."""
    stubborn = Stubborn()
    server = stack.enter_context(Scripted(stubborn, patience_seconds=FAR_SECONDS))
    dead = stack.enter_context(Scripted(mute, patience_seconds=FAR_SECONDS))
    standbys = [standby(server), standby(server), standby(dead, ready=False), standby(dead, ready=False)]
    leaving = BackgroundCloser()
    leaving.close_connection(dialled(server))  # one goodbye is under way already
    began = time.monotonic()
    leaving.close_all(dialled(server), standbys, Deadline(0.5))
    assert time.monotonic() - began < 60
    all_gone()
    dead.over.set()
    server.over.set()
    server.join()
    assert len(stubborn.told) >= 4 and set(marks(stubborn)) == {1}


@pytest.mark.usefixtures("wait_for_device")
def test_an_abort_overtakes_a_gentle_end(stack: ExitStack) -> None:
    """Who had begun to leave gently did not hear that the time was up."""
    stubborn = Stubborn()
    server = stack.enter_context(Scripted(stubborn, patience_seconds=FAR_SECONDS))
    patience = AdjustableDeadline(FAR_SECONDS)
    ends: list[float] = []

    def leaves() -> None:
        BackgroundCloser().close_all(dialled(server), [standby(server)], patience)
        ends.append(time.monotonic())

    thread = threading.Thread(target=leaves)
    thread.start()
    for _ in range(2):
        assert stubborn.marked.acquire(timeout=30)  # both goodbyes are under way
    assert not ends
    patience.expire_by(Deadline(0.1))
    thread.join(60)
    assert ends


def test_what_the_live_connection_says_with_its_goodbye_is_returned(stack: ExitStack) -> None:
    def last_words(peer: Peer) -> None:
        peer.accept()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(TEXT, b"farewell") + frame(CLOSE, data))
                return

    server = stack.enter_context(Scripted(last_words))
    assert Text("farewell") in BackgroundCloser().close_all(dialled(server), [], Deadline(60.0))


@pytest.mark.parametrize(
    "leave", [BackgroundCloser.close_connection, lambda it, connection: it.close_all(connection, [], Deadline(0.2))]
)
def test_an_end_mark_that_could_not_be_delivered_is_told(
    stack: ExitStack, caplog: pytest.LogCaptureFixture, leave: Callable[[BackgroundCloser, Connection], object]
) -> None:
    def deaf(peer: Peer) -> None:
        peer.accept()
        peer.wait()

    server = stack.enter_context(Scripted(deaf, receive_bytes=4096))
    connection = dialled(server)
    for _ in range(100):
        connection.send(Text("x" * 100_000))
    assert connection.unsent_bytes
    leaving = BackgroundCloser()
    with caplog.at_level(logging.WARNING):
        leave(leaving, connection)
        leaving.join(Deadline(0.2))
        all_gone()
    assert [record.getMessage() for record in caplog.records if "was not delivered" in record.getMessage()]


@pytest.mark.parametrize("reads", [True, False])
def test_where_there_are_no_more_threads_the_end_mark_is_still_written_once(
    stack: ExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """When the system gave no more threads the connection was dropped without a word to the service, or to the log."""

    def deaf(peer: Peer) -> None:
        peer.accept()
        peer.wait()

    stubborn = Stubborn()
    server = stack.enter_context(Scripted(stubborn if reads else deaf, receive_bytes=4096))
    connection = dialled(server)
    for _ in range(0 if reads else 100):
        connection.send(Text("x" * 100_000))
    with monkeypatch.context() as patch:

        def refuses(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuses)
        with caplog.at_level(logging.WARNING):
            BackgroundCloser().close_connection(connection)
    assert connection.is_closed
    server.over.set()
    server.join()
    lines = [record.getMessage() for record in caplog.records]
    if reads:
        assert marks(stubborn) == [1] and lines == []
    else:
        assert len(lines) == 1 and "the end mark was not delivered" in lines[0]

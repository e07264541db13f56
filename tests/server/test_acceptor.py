"""Accepting clients: errors of one client or of the system do not end it."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import resource
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.server.acceptor import Acceptor
from agent.server.listener import Listener, ListenerTiming
from agent.server.options import ServerOptions
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts.tone import ToneEngine
from agent.server.wire_log import WireLog
from agent.system.threads import Deadline

LOGGER = "agent.server.acceptor"


class WarningQueue(logging.Handler):
    """Puts each message of at least the level warning into a queue."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.put(record.getMessage())


@pytest.fixture
def warnings() -> Iterator[queue.SimpleQueue[str]]:
    handler = WarningQueue()
    logging.getLogger(LOGGER).addHandler(handler)
    yield handler.messages
    logging.getLogger(LOGGER).removeHandler(handler)


@contextlib.contextmanager
def accepting(admit: Callable[[socket.socket, Any], None]) -> Iterator[tuple[str, int]]:
    server_socket = socket.create_server(("127.0.0.1", 0))
    address = server_socket.getsockname()
    acceptor = Acceptor(server_socket, admit, "test server", retry_seconds=0.01)
    try:
        yield address
    finally:
        acceptor.stop()
        assert acceptor.join(30)


@contextlib.contextmanager
def no_free_descriptors() -> Iterator[None]:
    """No descriptor can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_client_waits_until_a_descriptor_is_free(warnings: queue.SimpleQueue[str]) -> None:
    timing = ListenerTiming(handshake_seconds=60.0, retry_seconds=0.01)
    engine = UnavailableRecognizer("no recognizer in this test")
    listener = Listener(ServerOptions(port=0), ToneEngine(), engine, WireLog(None), timing)
    try:
        with socket.socket() as first, socket.socket() as second:
            with no_free_descriptors():
                # A call of accept() that waits already has its descriptor: the first client may get it.
                first.connect(listener.address)
                second.connect(listener.address)
                assert "speech server" in warnings.get(timeout=30)
            for client in (first, second):
                client.settimeout(30)
                client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        with urllib.request.urlopen(f"http://127.0.0.1:{listener.address[1]}/health", timeout=30) as answer:
            assert answer.status == 200
    finally:
        assert listener.stop(Deadline(30.0), Deadline(60.0))
    assert warnings.empty()  # one warning for all attempts


def test_a_client_without_a_thread_is_closed_and_the_next_one_is_served(warnings: queue.SimpleQueue[str]) -> None:
    clients: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    results: list[Exception | None] = [RuntimeError("can't start new thread"), OSError(22, "reset"), None]

    def admit(client: socket.socket, address: Any) -> None:
        if error := results.pop(0):
            raise error
        clients.put(client)

    with accepting(admit) as address:
        for _ in range(2):
            with socket.create_connection(address, 30) as client:
                assert client.recv(1) == b""
        with socket.create_connection(address, 30) as client, clients.get(timeout=30) as accepted:
            assert accepted.getpeername() == client.getsockname()
    assert "can't start new thread" in warnings.get(timeout=30)
    assert warnings.empty()


def test_the_kernel_buffers_little_for_a_client_that_reads_slowly() -> None:
    clients: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    with (
        accepting(lambda client, address: clients.put(client)) as address,
        socket.create_connection(address, 30),
        clients.get(timeout=30) as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 256 * 1024


def test_stop_ends_a_wait_for_a_descriptor(warnings: queue.SimpleQueue[str]) -> None:
    server_socket = socket.create_server(("127.0.0.1", 0))
    address = server_socket.getsockname()
    clients: list[socket.socket] = []
    acceptor = Acceptor(server_socket, lambda client, _: clients.append(client), "test server", retry_seconds=3600.0)
    try:
        with socket.socket() as first, socket.socket() as second, no_free_descriptors():
            first.connect(address)
            second.connect(address)
            warnings.get(timeout=30)
    finally:
        acceptor.stop()
        assert acceptor.join(30)
        for client in clients:
            client.close()

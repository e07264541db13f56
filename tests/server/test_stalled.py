"""A client that takes nothing must not hold a thread for ever: its connection would otherwise never be given back."""

from __future__ import annotations

import socket
import threading

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from agent.server import listener
from agent.server.listener import Listener
from agent.server.options import Options
from agent.server.recognition import Deaf
from agent.server.tone import Tone
from agent.server.wire import WireLog
from agent.threads import Deadline


class Noticing(WireLog):
    """A wire log that tells when a session is over."""

    def __init__(self) -> None:
        super().__init__(None)
        self.over = threading.Event()

    def note(self, connection: int, service: str, direction: str, kind: str, summary: str) -> None:
        if (direction, kind) == ("in", "close"):
            self.over.set()


def test_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_STALLED_SECONDS", 1)
    wire = Noticing()
    server = Listener(Options(port=0), Tone(), Deaf("no recogniser here"), wire)
    try:
        client = socket.create_connection(server.address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        url = f"ws://127.0.0.1:{server.address[1]}/speak/en?sampling_rate=48000"
        with connect(url, sock=client, close_timeout=0.1) as ws:
            ws.send("word " * 2000 + "<STOP>")
            assert wire.over.wait(30)
    finally:
        assert server.stop(Deadline(2.0), Deadline(10.0))


def seated(url: str) -> ClientConnection:
    """A session; who has just left keeps its seat until its thread has ended, a moment after the goodbye."""
    deadline = Deadline(20.0)
    while True:
        try:
            return connect(url, open_timeout=10)
        except InvalidStatus:
            if deadline.over:
                raise


def test_those_who_connect_and_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent connections held the seats of clients for 20 s, and everybody else was locked out."""
    monkeypatch.setattr(listener, "OPENINGS", 6)
    server = Listener(Options(port=0, clients=2), Tone(), Deaf("no recogniser here"), WireLog(None))
    silent = []
    try:
        url = f"ws://127.0.0.1:{server.address[1]}/speak/en"
        for _ in range(20):
            silent.append(socket.create_connection(server.address))
            silent.append(socket.create_connection(server.address))
            silent[-1].sendall(b"GET / HTTP/1.1\r\n")
            with seated(url), seated(url):
                pass
        with seated(url), seated(url), pytest.raises(InvalidStatus) as refused, connect(url):
            pass
        assert refused.value.response.status_code == 503
    finally:
        assert server.stop(Deadline(2.0), Deadline(10.0))
        for each in silent:
            each.close()


def test_who_says_nothing_is_dropped_in_the_time_of_an_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 20 s: 10 for the first byte, and 10 for the rest of the request."""
    monkeypatch.setattr(listener, "OPEN_SECONDS", 0.5)
    server = Listener(Options(port=0), Tone(), Deaf("no recogniser here"), WireLog(None))
    try:
        with socket.create_connection(server.address, 4) as silent, socket.create_connection(server.address, 4) as half:
            half.sendall(b"G")
            for each in (silent, half):
                while each.recv(1000):
                    pass
    finally:
        assert server.stop(Deadline(2.0), Deadline(10.0))

"""A client that takes nothing must not hold a thread for ever: its connection would otherwise never be given back."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from agent.server import listener
from agent.server.listener import Listener
from agent.server.options import Options
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts.tone import ToneEngine
from agent.server.wire_log import WireLog
from agent.system.threads import Deadline


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
    server = Listener(Options(port=0), ToneEngine(), UnavailableRecognizer("no recogniser here"), wire)
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
            if deadline.is_expired:
                raise


def test_those_who_connect_and_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent connections held the seats of clients for 20 s, and everybody else was locked out."""
    monkeypatch.setattr(listener, "OPENINGS", 6)
    server = Listener(
        Options(port=0, clients=2), ToneEngine(), UnavailableRecognizer("no recogniser here"), WireLog(None)
    )
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
    server = Listener(Options(port=0), ToneEngine(), UnavailableRecognizer("no recogniser here"), WireLog(None))
    try:
        with socket.create_connection(server.address, 9) as silent, socket.create_connection(server.address, 9) as half:
            with contextlib.suppress(ConnectionError):  # it may be dropped already
                half.sendall(b"G")
            for each in (silent, half):
                answer = b""
                with contextlib.suppress(ConnectionError):
                    while more := each.recv(1000):
                        answer += more
                assert answer == b"", "there was no request, for the rest of which another such time had been given"
    finally:
        assert server.stop(Deadline(2.0), Deadline(10.0))


def test_those_who_have_not_opened_a_session_yet_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "OPEN_SECONDS", 120.0)
    server = Listener(Options(port=0), ToneEngine(), UnavailableRecognizer("no recogniser here"), WireLog(None))
    with socket.create_connection(server.address) as half, socket.create_connection(server.address):
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert server.stop(Deadline(30.0), Deadline(60.0))


def test_who_is_accepted_at_the_last_moment_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread began after those that were opening had been cut: it had the whole time of an opening, and the end
    waited for it."""
    monkeypatch.setattr(listener, "OPEN_SECONDS", 120.0)
    may_open, came = Listener._may_open, threading.Semaphore(0)
    second, cut = threading.Event(), threading.Event()

    def held(server: Listener, client: socket.socket) -> bool:
        if second.is_set():
            came.release()
            assert cut.wait(30)
        opened = may_open(server, client)
        came.release()
        return opened

    monkeypatch.setattr(Listener, "_may_open", held)
    server = Listener(Options(port=0), ToneEngine(), UnavailableRecognizer("no recogniser here"), WireLog(None))
    ended: list[bool] = []
    stopping = threading.Thread(target=lambda: ended.append(server.stop(Deadline(30.0), Deadline(60.0))))
    with socket.create_connection(server.address, 30) as opening:
        assert came.acquire(timeout=30)
        second.set()
        with socket.create_connection(server.address, 30):
            assert came.acquire(timeout=30)
            stopping.start()
            assert opening.recv(1) == b""
            cut.set()
            stopping.join(90)
    assert ended == [True]

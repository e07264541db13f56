"""Clients that read nothing or send nothing: they block neither a thread, nor other clients, nor the shutdown."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from agent.server.listener import Listener, ListenerTiming
from agent.server.options import ServerOptions
from agent.server.stt.engine import UnavailableRecognizer
from agent.server.tts.tone import ToneEngine
from agent.server.wire_log import WireLog
from agent.system.threads import Deadline

UNAVAILABLE = UnavailableRecognizer("no recognizer in this test")


class SessionEndLog(WireLog):
    """A wire log that sets an event at the end of a session."""

    def __init__(self) -> None:
        super().__init__(None)
        self.session_ended = threading.Event()

    def note(self, connection: int, service: str, direction: str, kind: str, summary: str) -> None:
        if (direction, kind) == ("in", "close"):
            self.session_ended.set()


@contextlib.contextmanager
def running_listener(
    timing: ListenerTiming | None = None,
    *,
    clients: int = 32,
    max_handshakes: int = 64,
    wire_log: WireLog | None = None,
    pace: float | None = None,
) -> Iterator[Listener]:
    options = ServerOptions(port=0, clients=clients, pace=pace)
    listener = Listener(options, ToneEngine(), UNAVAILABLE, wire_log or WireLog(None), timing, max_handshakes)
    try:
        yield listener
    finally:
        assert listener.stop(Deadline(30.0), Deadline(60.0))


def connect_when_admitted(url: str) -> ClientConnection:
    """Retry while the server rejects: a closed session keeps its place until its thread has ended."""
    deadline = Deadline(20.0)
    while True:
        try:
            return connect(url, open_timeout=10)
        except InvalidStatus:
            if deadline.is_expired:
                raise


def test_a_client_that_reads_nothing_is_disconnected() -> None:
    wire_log = SessionEndLog()
    with running_listener(ListenerTiming(send_seconds=1), wire_log=wire_log) as listener:
        client = socket.create_connection(listener.address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        url = f"ws://127.0.0.1:{listener.address[1]}/speak/en?sampling_rate=48000"
        with connect(url, sock=client, close_timeout=0.1) as ws:
            ws.send("word " * 2000 + "<STOP>")
            assert wire_log.session_ended.wait(30)


@pytest.mark.parametrize(
    ("path", "request_text"),
    [
        ("/speak/en?sampling_rate=8000", "Good morning. <STOP>"),
        ("/api/v1/tts", json.dumps({"text": "Good morning."})),
        ("", json.dumps({"text": "Good morning.", "voice": "s3://voice", "output_format": "raw"})),
    ],
    ids=["neuphonic", "vachana", "playai"],
)
def test_a_client_that_sends_a_book_at_once_gets_its_pongs(path: str, request_text: str) -> None:
    with running_listener(pace=0.001) as listener:  # it still speaks the first passage
        host, port = listener.address
        if not path:
            body = urllib.request.urlopen(f"http://{host}:{port}/api/v1/tts/websocket-auth", b"", timeout=20).read()
            path = urlsplit(json.loads(body)["webSocketUrls"]["Play3.0-mini"])._replace(scheme="", netloc="").geturl()
        with connect(f"ws://{host}:{port}{path}", close_timeout=0.1) as ws:
            for _ in range(500):
                ws.send(request_text)
            assert ws.ping().wait(20)


def test_silent_connections_do_not_lock_out_clients() -> None:
    with contextlib.ExitStack() as silent, running_listener(clients=2, max_handshakes=6) as listener:
        url = f"ws://127.0.0.1:{listener.address[1]}/speak/en"
        for _ in range(20):
            silent.enter_context(socket.create_connection(listener.address))
            silent.enter_context(socket.create_connection(listener.address)).sendall(b"GET / HTTP/1.1\r\n")
            with connect_when_admitted(url), connect_when_admitted(url):
                pass
        with (
            connect_when_admitted(url),
            connect_when_admitted(url),
            pytest.raises(InvalidStatus) as rejection,
            connect(url),
        ):
            pass
        assert rejection.value.response.status_code == 503


def test_an_incomplete_handshake_is_disconnected_after_its_timeout() -> None:
    with (
        running_listener(ListenerTiming(handshake_seconds=0.5)) as listener,
        socket.create_connection(listener.address, 9) as silent,
        socket.create_connection(listener.address, 9) as half,
    ):
        with contextlib.suppress(ConnectionError):  # the server may have disconnected already
            half.sendall(b"G")
        for client in (silent, half):
            response = b""
            with contextlib.suppress(ConnectionError):
                while more := client.recv(1000):
                    response += more
            assert response == b""


def test_incomplete_handshakes_do_not_delay_stop() -> None:
    with (
        running_listener(ListenerTiming(handshake_seconds=120.0)) as listener,
        socket.create_connection(listener.address) as half,
        socket.create_connection(listener.address),
    ):
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert listener.stop(Deadline(30.0), Deadline(60.0))


def test_a_connection_accepted_during_stop_does_not_delay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the second connection starts after stop() has disconnected the handshakes."""
    admit_handshake, admitted = Listener._admit_handshake, threading.Semaphore(0)
    is_second, is_disconnected = threading.Event(), threading.Event()

    def delayed_admission(listener: Listener, client: socket.socket) -> bool:
        if is_second.is_set():
            admitted.release()
            assert is_disconnected.wait(30)
        result = admit_handshake(listener, client)
        admitted.release()
        return result

    monkeypatch.setattr(Listener, "_admit_handshake", delayed_admission)
    results: list[bool] = []
    with running_listener(ListenerTiming(handshake_seconds=120.0)) as listener:
        stopping = threading.Thread(target=lambda: results.append(listener.stop(Deadline(30.0), Deadline(60.0))))
        with socket.create_connection(listener.address, 30) as first:
            assert admitted.acquire(timeout=30)
            is_second.set()
            with socket.create_connection(listener.address, 30):
                assert admitted.acquire(timeout=30)
                stopping.start()
                assert first.recv(1) == b""
                is_disconnected.set()
                stopping.join(90)
    assert results == [True]

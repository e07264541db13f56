"""A client that takes nothing must not hold a thread for ever: its connection would otherwise never be given back."""

from __future__ import annotations

import socket
import threading

import pytest
from websockets.sync.client import connect

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

"""Hostile clients of the web frontend disturb neither the speech nor the memory of the daemon."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import Start, scripted_server, service_config
from support.machine import free_port, resident_kib
from support.processes import Process
from support.timing import poll_until
from support.web import BEARER, JSON, SECONDS, TOKEN

from agent.frontends.web.connection import MAX_BODY_BYTES
from agent.frontends.web.server import MAX_CONNECTIONS
from agent.system.threads import Deadline

MAX_GROWTH_KIB = 4 * 1024
GIB = 1 << 30
CONNECTIONS = 1000
LONG = "one two three four five six seven eight nine ten " * 2
HEAD = b"Host: 127.0.0.1\r\n"


class Target:
    """A daemon with a page, and its port."""

    def __init__(self, process: Process, port: int) -> None:
        self.process, self.port = process, port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method as soon as a connection is free."""
        deadline = Deadline(SECONDS)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
            try:
                connection.request("POST", "/rpc", body, {**JSON, **BEARER})
                return json.loads(connection.getresponse().read())["result"]
            except (OSError, http.client.HTTPException):
                assert not deadline.is_expired
            finally:
                connection.close()


@pytest.fixture
def target(agent: Start, tmp_path: Path) -> Iterator[Target]:
    with scripted_server(tmp_path) as server:
        port = free_port()
        config = tmp_path / "config.yaml"
        config.write_text(
            f"microphone: {{device: none}}\nspeaker: {{device: 'file:{tmp_path}/out.wav'}}\n"
            f"conversation: {{mode: announce}}\ncontrol: {{socket: none}}\nserver: {{start: false}}\n"
            f"web: {{listen: '127.0.0.1:{port}', token: {{env: WEB_TOKEN}}}}\n{service_config(server, 'local')}"
        )
        process = agent("run", "--config", str(config), env={"WEB_TOKEN": TOKEN, "STATE_DIRECTORY": str(tmp_path)})
        process.stderr.await_text("daemon ready")
        yield Target(process, port)
        process.signal(15)
        assert process.end() == 0
        assert [line for line in process.error_lines() if " error " in line] == []


def send_until_closed(target: Target, start: bytes, size: int) -> None:
    """Send an endless request until the daemon closes the connection."""
    chunk = b"x" * 65536
    with target.connect() as connected, contextlib.suppress(OSError):
        connected.sendall(start)
        for _ in range(size // len(chunk)):
            connected.sendall(chunk)
        raise AssertionError("the daemon has read everything")


def attack(target: Target) -> None:
    """Send what no client should send."""
    send_until_closed(target, b"GET /", GIB)
    send_until_closed(target, b"GET / HTTP/1.1\r\n" + HEAD + b"X: ", GIB)
    head = b"POST /rpc HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    send_until_closed(target, head + b"Content-Length: %d\r\n\r\n" % GIB, GIB)
    send_until_closed(target, head + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n", GIB)
    for garbage in (b"\0" * 1000, b"\x16\x03\x01\x02\x00" * 100, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                    b"GET /?token=x HTTP/1.1\r\n" + HEAD + b"\r\n", b"\r\n" * 5000):  # fmt: skip
        with target.connect() as connected, contextlib.suppress(OSError):
            connected.sendall(garbage)
            connected.shutdown(socket.SHUT_WR)
            connected.recv(65536)
    deep = b"[" * MAX_BODY_BYTES
    for body in (deep, deep.replace(b"[", b'{"a":')[:MAX_BODY_BYTES], b'{"id":' + b"9" * 60000 + b"}"):
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=SECONDS)
        connection.request("POST", "/rpc", body, JSON)
        assert b'"error"' in connection.getresponse().read()
        connection.close()
    held = []
    for _ in range(CONNECTIONS):  # some say nothing, some never read, some send slowly
        connected = target.connect()
        with contextlib.suppress(OSError):
            connected.sendall((b"", b"GET /events HTTP/1.1\r\n" + HEAD + b"\r\n", b"POST /rpc HT")[len(held) % 3])
        held.append(connected)
    for connected in held:
        connected.close()


def test_hostile_clients_disturb_neither_speech_nor_memory(
    target: Target, record_property: Callable[[str, object], None]
) -> None:
    target.call("say", text="one")
    threads = [threading.Thread(target=target.call, args=("status",)) for _ in range(MAX_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    before = resident_kib(target.process.popen.pid)
    spoken = target.call("say", text=LONG)["id"]
    attack(target)
    growth = resident_kib(target.process.popen.pid) - before
    target.process.stderr.await_text(f"{spoken}: played")
    poll_until(lambda: target.call("status")["state"] == "idle")  # the state follows the record
    record_property("figure", f"memory grew by {growth} KiB")
    assert growth < MAX_GROWTH_KIB
    assert "underrun" not in target.process.stderr.data.decode()

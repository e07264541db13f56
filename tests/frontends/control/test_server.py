from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.control import ControlHarness
from support.machine import resident_kib

from agent.errors import ConfigError
from agent.frontends.api.api import Api
from agent.frontends.api.hub import TextTimeouts
from agent.frontends.control.peer import PeerTiming
from agent.frontends.control.server import ACCEPT_PAUSE_SECONDS, MAX_PEERS, ControlServer
from agent.frontends.control.unix_socket import PeerCredentials
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, Event, Heard, Hush, TextComplete, TextPiece, WorkerCrashed
from agent.pipeline.status import Status
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

SECONDS = 20.0
STATUS = Status("ready to speak", "idle", (), 80)


def request(method: str, /, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"


class Client:
    """A client that sends and receives one line at a time."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # without a timeout: with one it fails while the backlog is full
        self.socket.settimeout(SECONDS)
        self._file = self.socket.makefile("rb")

    def send(self, method: str, /, **params: object) -> None:
        self.socket.sendall(request(method, **params))

    def receive(self) -> Any:
        """The next response; ``None`` after the end of the connection."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, method: str, /, **params: object) -> Any:
        """The result or the error of a request; ``None`` after the end of the connection."""
        with contextlib.suppress(BrokenPipeError):  # it has been let go already, and may read why
            self.send(method, **params)
        response = self.receive()
        return response and (response.get("result") if "result" in response else response["error"])

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Setup(ControlHarness):
    """A control server with clients."""

    def __init__(self, path: Path, timing: PeerTiming, texts: TextTimeouts | None = None) -> None:
        super().__init__(path, timing=timing, texts=texts)
        self.clients: list[Client] = []

    def call(self) -> Client:
        client = Client(self.path)
        self.clients.append(client)
        return client

    def waiting_client(self, text: str) -> Client:
        """A client whose request was accepted. A slow client may time out as idle before, so it tries again."""
        deadline = Deadline(SECONDS)
        while not deadline.is_expired:
            client = self.call()
            answer = client.ask("say", text=text, wait=True)
            if answer is not None and "id" in answer:
                return client
        raise AssertionError(f"{text} was never accepted")

    def played(self, utterance: Utterance) -> None:
        self.api.notify(Record(utterance, "played", "", 1.5))

    def end(self) -> None:
        super().end()
        for client in self.clients:
            client.close()
        while not self.inbox.empty():
            assert not isinstance(self.inbox.get(), WorkerCrashed)


Build = Callable[..., Setup]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    setups: list[Setup] = []

    def make(path: Path | None = None, texts: TextTimeouts | None = None, **timing: float) -> Setup:
        setups.append(Setup(path or tmp_path / "run" / "control.sock", PeerTiming(**timing), texts))
        return setups[-1]

    yield make
    for setup in setups:
        setup.end()


# --- requests


def test_say_returns_the_id_and_then_its_recorded_end(build: Build) -> None:
    setup = build()
    client = setup.call()
    accepted = client.ask("say", text="hello", priority=3, wait=True)
    announced = setup.event()
    assert isinstance(announced, Announce)
    utterance = announced.utterance
    assert accepted == {"id": utterance.id, "durable": False}
    assert (utterance.text, utterance.priority, utterance.source) == ("hello", 3, "control")
    setup.api.notify(Record(utterance, "failed", "every service is down", 0.25))
    ended = {"id": utterance.id, "state": "failed", "reason": "every service is down", "seconds": 0.25}
    assert client.receive() == {"jsonrpc": "2.0", "method": "ended", "params": ended}


def test_client_receives_only_its_own_utterances(build: Build) -> None:
    setup = build()
    one, two = setup.call(), setup.call()
    one.ask("say", text="one", wait=True)
    two.ask("say", text="two", wait=True)
    announced = [setup.event(), setup.event()]
    for event in reversed(announced):
        assert isinstance(event, Announce)
        setup.played(event.utterance)
    ids = {event.utterance.text: event.utterance.id for event in announced if isinstance(event, Announce)}
    assert one.receive()["params"]["id"] == ids["one"]
    assert two.receive()["params"]["id"] == ids["two"]
    assert one.ask("status")["state"] == "idle"  # and nothing came in between


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_streamed_text_is_completed_when_its_client_disconnects_or_ends_its_input(
    build: Build, words: bool, half: bool
) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask("say.begin")["id"]
    if words:
        client.send("say.append", id=utterance, text="One.")
        assert isinstance(setup.event(), Announce)
        assert setup.event() == TextPiece(utterance, "One.")
    if half:
        client.socket.shutdown(socket.SHUT_WR)
    else:
        client.close()
    if words:
        assert setup.event() == TextComplete(utterance)
    assert setup.call().ask("status")["state"] == "idle"
    assert setup.inbox.empty()


def test_streamed_text_is_completed_when_its_next_piece_is_overdue(build: Build) -> None:
    setup = build(texts=TextTimeouts(piece_seconds=0.2))
    client = setup.call()
    utterance = client.ask("say.begin", wait=True)["id"]
    client.ask("say.append", id=utterance, text="One.")
    assert isinstance(setup.event(), Announce)
    assert [setup.event(), setup.event()] == [TextPiece(utterance, "One."), TextComplete(utterance)]
    assert client.ask("say.append", id=utterance, text="Two.")["data"]["name"] == "unknown_utterance"


def test_requests_without_an_id_are_executed_without_a_response(build: Build) -> None:
    setup = build()
    client = setup.call()
    client.socket.sendall(b'{"jsonrpc": "2.0", "method": "hush"}\n')
    assert setup.event() == Hush("control")
    assert client.ask("status")["state"] == "idle"


def test_invalid_line_gets_an_error_and_the_next_request_is_served(build: Build) -> None:
    setup = build()
    client = setup.call()
    for line, code in (
        (b"", -32700),
        (b"hello", -32700),
        (b"\xff\x00", -32700),
        (b"[" * 1000, -32600),
        (b'{"say": "hello"}', -32600),
    ):
        client.socket.sendall(line + b"\n")
        assert client.receive()["error"]["code"] == code
    assert client.ask("status")["status"] == "ready to speak"


def test_subscriber_receives_events_until_it_unsubscribes(build: Build) -> None:
    setup = build(idle_seconds=0.2)
    client = setup.call()
    client.ask("subscribe", events=["heard"], texts=True)
    for _ in range(2):
        assert "too long" in setup.call().receive()["error"]["message"]  # a subscriber is not idle
    setup.api.notify(Heard("hello"))
    event = client.receive()
    assert (event["method"], event["params"]["text"]) == ("event", "hello")
    assert client.ask("unsubscribe") == {}


def test_subscriber_that_does_not_read_loses_events_and_gets_their_number(build: Build) -> None:
    setup = build(line_seconds=0.2)
    deaf, other = setup.call(), setup.call()
    deaf.ask("subscribe", events=["heard"], texts=True)
    text = "x" * 1000
    for number in range(3000):  # more than the socket, the server and the subscription hold
        setup.api.notify(Heard(f"{text} {number}"))
    assert other.ask("status")["state"] == "idle"
    for _ in range(2):  # so more than the time to read a response has gone by
        slow = setup.call()
        slow.socket.sendall(b"{")
        assert "too long" in slow.receive()["error"]["message"]
    seen: list[int] = []
    lost = 0
    while not seen or seen[-1] < 2999:
        params = deaf.receive()["params"]
        if params["event"] == "lost":
            lost += params["lost"]
        else:
            seen.append(int(params["text"].split()[1]))
    assert lost > 0 and lost + len(seen) == 3000 and seen == sorted(seen)


# --- connections


def test_requests_of_a_disconnected_client_are_carried_out(build: Build) -> None:
    setup = build(lines_per_second=5)
    client = setup.call()
    client.socket.sendall(b"".join(request("say", text=f"text {number}") for number in range(8)))
    client.close()
    texts = [event.utterance.text for event in (setup.event() for _ in range(8)) if isinstance(event, Announce)]
    assert texts == [f"text {number}" for number in range(8)]


def test_half_closed_client_receives_its_responses(build: Build) -> None:
    setup = build()
    client = setup.call()
    client.send("say", text="hello", wait=True)
    client.socket.shutdown(socket.SHUT_WR)
    event = setup.event()
    assert isinstance(event, Announce)
    assert client.receive()["result"]["id"] == event.utterance.id
    setup.played(event.utterance)
    assert client.receive()["params"]["state"] == "played"
    assert client.receive() is None


def test_client_beyond_the_limit_is_refused_until_another_disconnects(build: Build) -> None:
    setup = build()
    inside = [setup.call() for _ in range(MAX_PEERS)]
    for client in inside:
        assert client.ask("status")["state"] == "idle"
    refused = setup.call()
    assert f"{MAX_PEERS} programs" in refused.receive()["error"]["message"]
    assert refused.receive() is None
    inside[0].socket.shutdown(socket.SHUT_RDWR)
    assert inside[0].receive() is None
    deadline = Deadline(10.0)  # the place is free a moment after its owner has seen the end
    answer = None
    while not deadline.is_expired and (answer is None or "state" not in answer):
        answer = setup.call().ask("status")
    assert answer is not None and answer["state"] == "idle"


def test_idle_clients_and_incomplete_lines_time_out(build: Build, tmp_path: Path) -> None:
    idle = build(idle_seconds=0.3).call()
    dripping = build(tmp_path / "other" / "control.sock", line_seconds=0.2).call()
    dripping.socket.sendall(b'{"jsonrpc": "2.0", "me')
    for client in (dripping, idle):
        assert "too long" in client.receive()["error"]["message"]
        assert client.receive() is None


def test_client_that_awaits_an_utterance_is_not_idle(build: Build) -> None:
    setup = build(idle_seconds=0.2)
    waiting = setup.waiting_client("a long story")
    event = setup.event()
    assert isinstance(event, Announce)
    for _ in range(2):
        assert "too long" in setup.call().receive()["error"]["message"]  # so more than that time has gone by
    setup.played(event.utterance)
    assert waiting.receive()["params"]["state"] == "played"


def test_idle_time_starts_after_the_last_response(build: Build) -> None:
    setup = build(idle_seconds=2.0)
    client = setup.waiting_client("long")
    announced = setup.event()
    assert isinstance(announced, Announce)
    other = setup.call()
    assert "too long" in other.receive()["error"]["message"]  # so that time has passed
    answered_at = time.monotonic()
    setup.played(announced.utterance)
    assert client.receive()["params"]["state"] == "played"
    answer = client.ask("say", text="next")
    # If this test was itself delayed for two seconds, the connection was idle for that time.
    assert "id" in answer or time.monotonic() - answered_at > 2.0


def test_client_that_does_not_read_is_disconnected(build: Build) -> None:
    setup = build(lines_per_second=1e6, line_seconds=0.5)
    deaf, other = setup.call(), setup.call()
    deaf.socket.settimeout(0.2)
    requests = request("status") * 1000
    with pytest.raises(OSError):  # the answers fill every buffer there is; then the server reads no more
        for _ in range(1000):
            deaf.socket.sendall(requests)
    assert other.ask("status")["state"] == "idle"
    deaf.socket.settimeout(SECONDS)
    with pytest.raises(OSError):  # a connection that has been closed cannot be written to
        for _ in range(1000):
            deaf.socket.sendall(requests)


def test_endless_line_is_disconnected_with_bounded_memory(build: Build) -> None:
    setup = build()
    other = setup.call()
    before = resident_kib()
    giant = setup.call()
    chunk, written = b"x" * 65536, 0
    with pytest.raises(OSError):
        for _ in range(128):  # 8 MiB
            giant.socket.sendall(chunk)
            written += len(chunk)
    assert written < 2 * 1024 * 1024
    assert resident_kib() - before < 4 * 1024
    assert other.ask("status")["state"] == "idle"


def test_flooding_client_is_throttled_and_others_are_served(build: Build) -> None:
    began = time.monotonic()
    setup = build(lines_per_second=20)
    loud, other = setup.call(), setup.call()
    loud.socket.setblocking(False)
    written = 0
    while True:
        try:
            written += loud.socket.send(request("hush") * 4096)
        except BlockingIOError:
            break
    assert written > 40 * len(request("hush"))
    for _ in range(10):
        assert other.ask("status")["state"] == "idle"
    assert setup.event() == Hush("control")
    read = setup.inbox.qsize()  # of thousands that were written
    assert read <= 20 * (1 + time.monotonic() - began)


def test_server_survives_a_thousand_connections(build: Build) -> None:
    setup = build()
    other = setup.call()
    for number in range(1000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(setup.path))
        if number % 100 == 0:
            assert other.ask("status")["state"] == "idle"
    assert other.ask("say", text="still here")["id"]
    for _ in range(200):  # those that have gone already may still stand in the queue before us
        answer = setup.call().ask("status")
        if answer is not None and "state" in answer:
            break
    assert answer["state"] == "idle"
    assert setup.control.is_alive


@pytest.mark.parametrize("half", [True, False])
def test_requests_of_a_client_that_closes_without_reading_are_executed(build: Build, half: bool) -> None:
    setup = build(lines_per_second=1e6, line_seconds=60.0)
    client, other = setup.call(), setup.call()
    client.socket.sendall(request("status") * 2000 + request("say", text="hello"))
    # Each answer is at least one round of the poll loop, in which the server executes requests of the first client
    # until 64 KiB of its responses wait behind the full buffer of the socket.
    if half:
        client.socket.shutdown(socket.SHUT_WR)
    for _ in range(400):
        assert "error" not in other.ask("status")
    client.close()
    announced = setup.event()
    assert isinstance(announced, Announce) and announced.utterance.text == "hello"


def test_accept_pauses_while_the_process_has_no_descriptor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    api = Api(inbox.put)
    control = ControlServer(tmp_path / "control.sock", inbox.put, api)
    control.open()
    api.notify(STATUS)
    control.start()
    first = Client(tmp_path / "control.sock")
    assert first.ask("status")["state"] == "idle"
    second = socket.socket(socket.AF_UNIX)
    second.settimeout(ACCEPT_PAUSE_SECONDS / 2)
    tried = _LogSignal()
    logging.getLogger("agent.frontends.control.server").addHandler(tried)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    began, rounds_before = time.monotonic(), control.heartbeats
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        second.connect(str(tmp_path / "control.sock"))
        second.sendall(request("status"))
        assert tried.logged.wait(SECONDS)
        with pytest.raises(TimeoutError):
            second.recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logging.getLogger("agent.frontends.control.server").removeHandler(tried)
    second.settimeout(SECONDS)
    assert second.recv(65536).startswith(b'{"jsonrpc"')
    rounds, levels = control.heartbeats - rounds_before, {record.levelname for record in caplog.records}
    tries = 1 + (time.monotonic() - began) / ACCEPT_PAUSE_SECONDS
    assert levels == {"WARNING"} and len(caplog.records) <= tries
    assert rounds < 20 * tries
    first.close()
    second.close()
    control.stop_accepting()
    control.stop()
    assert control.join(Deadline(SECONDS)) and inbox.empty()


class _LogSignal(logging.Handler):
    """Sets an event at the first log record."""

    def __init__(self) -> None:
        super().__init__()
        self.logged = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.set()


STRANGER = """
import json, os, socket, sys
path, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
client = socket.socket(socket.AF_UNIX)
try:
    client.connect(path)
    client.settimeout(20)
    client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "status"}\\n')
except PermissionError:
    print("kept out")
    sys.exit()
except BrokenPipeError:
    pass
print(client.makefile().readline())
"""


def stranger(path: Path, uid: int, gid: int) -> str:
    command = [sys.executable, "-c", STRANGER, str(path), str(uid), str(gid)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


NOBODY = 65534


def test_other_user_is_refused_even_with_a_widened_mode(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory:  # not below a directory that is shut to everybody else
        os.chmod(directory, 0o755)
        setup = build(Path(directory) / "run" / "control.sock")
        if os.getuid() == 0:
            assert stranger(setup.path, NOBODY, NOBODY) == "kept out"
        else:
            # Only root can start a process of another user: make this user a stranger instead.
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
            stranger_of_no_group = PeerCredentials(1, os.getuid(), frozenset())
            monkeypatch.setattr(PeerCredentials, "of", lambda connected: stranger_of_no_group)
        setup.path.parent.chmod(0o755)
        setup.path.chmod(0o666)
        answer = json.loads(stranger(setup.path, NOBODY, NOBODY))
        assert answer["error"]["message"].startswith("you may not")
        monkeypatch.undo()
        assert setup.call().ask("status")["state"] == "idle"
        setup.end()


def test_group_member_is_accepted(build: Build) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        setup = build(Path(directory) / "run" / "control.sock")
        answer = json.loads(stranger(setup.path, NOBODY, setup.path.stat().st_gid))
        assert answer["result"]["state"] == "idle"
        setup.end()


# --- shutdown


def test_stop_accepting_refuses_new_texts_and_still_reports_ends(build: Build) -> None:
    setup = build()
    client = setup.call()
    client.ask("say", text="hello", wait=True)
    event = setup.event()
    assert isinstance(event, Announce)
    setup.stop_accepting()
    assert "shutting down" in client.ask("say", text="more")["message"]
    assert not setup.path.exists()
    setup.played(event.utterance)
    assert client.receive()["params"]["state"] == "played"
    assert client.ask("status")["state"] == "idle"


def test_stop_cancels_the_awaited_utterances(build: Build) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask("say", text="hello", wait=True)["id"]
    setup.stop_accepting()
    setup.stop()
    ended = client.receive()["params"]
    assert (ended["id"], ended["state"]) == (utterance, "cancelled")
    assert client.receive() is None
    assert setup.control.join(Deadline(SECONDS))


def test_stop_and_abort_do_not_wait_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    for end in ("stop", "abort"):
        setup = Setup(tmp_path / end, PeerTiming(lines_per_second=1e6, line_seconds=600.0))
        deaf = setup.call()
        deaf.socket.setblocking(False)
        try:
            while True:
                deaf.socket.send(request("status") * 100)
        except OSError:
            pass
        getattr(setup.control, end)()
        assert setup.control.join(Deadline(SECONDS))
        setup.end()
        assert not setup.path.exists()


def test_abort_ends_the_wait_for_a_client_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path / "control.sock", PeerTiming())
    flush, waits = setup.control._flush, threading.Event()
    monkeypatch.setattr(setup.control, "_flush_seconds", 2 * SECONDS)
    monkeypatch.setattr(setup.control, "_flush", lambda: [waits.set(), flush()])
    deaf, other = setup.call(), setup.call()
    deaf.ask("subscribe", events=["heard"], texts=True)
    for _ in range(100):  # more than the socket holds
        setup.api.notify(Heard("x" * 10_000))
        assert other.ask("status")["state"] == "idle"  # the server has sent the event
    deaf.send("status")
    assert other.ask("status")["state"] == "idle"  # the response to the deaf client is queued
    setup.control.stop()
    assert waits.wait(SECONDS)
    setup.control.abort()
    assert setup.control.join(Deadline(SECONDS))
    setup.end()


def test_stop_does_not_wait_for_a_subscriber_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(tmp_path / "control.sock", PeerTiming())
    monkeypatch.setattr(setup.control, "_flush_seconds", 10 * SECONDS)
    deaf, other = setup.call(), setup.call()
    deaf.ask("subscribe", events=["heard"], texts=True)
    for _ in range(100):  # more than the socket holds
        setup.api.notify(Heard("x" * 10_000))
        assert other.ask("status")["state"] == "idle"  # the server has sent the event
    setup.control.stop()
    has_ended = setup.control.join(Deadline(SECONDS))
    setup.control.abort()
    setup.end()
    assert has_ended


def test_stop_is_idempotent_and_safe_before_start(tmp_path: Path) -> None:
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    control = ControlServer(tmp_path / "control.sock", inbox.put, Api(inbox.put))
    control.open()
    for _ in range(2):
        control.stop_accepting()
        control.stop()
        control.abort()
    assert control.join(Deadline(1.0))
    assert not (tmp_path / "control.sock").exists()


def test_open_fails_only_where_the_socket_is_required(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("precious")
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with pytest.raises(ConfigError):
        ControlServer(tmp_path / "control.sock", inbox.put, Api(inbox.put)).open()
    control = ControlServer(tmp_path / "control.sock", inbox.put, Api(inbox.put), required=False)
    control.open()
    control.start()
    control.stop_accepting()
    control.stop()
    assert control.join(Deadline(SECONDS))
    assert inbox.empty() and (tmp_path / "control.sock").read_text() == "precious"

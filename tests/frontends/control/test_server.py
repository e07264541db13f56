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

from agent.errors import ConfigError
from agent.frontends.control.peer import PeerTiming
from agent.frontends.control.server import ACCEPT_PAUSE_SECONDS, MAX_ACTIVE_PEERS, MAX_PEERS, ControlServer
from agent.frontends.control.unix_socket import PeerCredentials
from agent.pipeline.conversation import Record
from agent.pipeline.events import (
    Announce,
    Event,
    Hush,
    MicrophoneMute,
    Mute,
    TextComplete,
    TextPiece,
    Utterance,
    Volume,
    WorkerCrashed,
)
from agent.pipeline.status import Status
from agent.system.text import MAX_TEXT_CHARACTERS
from agent.system.threads import Deadline

SECONDS = 20.0
STATUS = Status("ready to speak", "idle", (), 80)


class Client:
    """A client that sends and receives one line at a time."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # without a timeout: with one it fails while the backlog is full
        self.socket.settimeout(SECONDS)
        self._file = self.socket.makefile("rb")

    def send(self, request: object) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> Any:
        """The next response; ``None`` after the end of the connection."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, request: object) -> Any:
        with contextlib.suppress(BrokenPipeError):  # it has been let go already, and may read why
            self.send(request)
        return self.receive()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Setup:
    """A control server with an inbox."""

    def __init__(self, path: Path, timing: PeerTiming, storage_problem: str | None = None) -> None:
        self.path = path
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.control = ControlServer(path, self.inbox.put, timing=timing, storage_problem=lambda: storage_problem)
        self.control.open()
        self.control.notify(STATUS)
        self.control.start()
        self.clients: list[Client] = []

    def call(self) -> Client:
        client = Client(self.path)
        self.clients.append(client)
        return client

    def accepted_client(self, request: object) -> Client:
        """A client whose request was accepted. A slow client may time out as idle before, so it tries again."""
        deadline = Deadline(SECONDS)
        while not deadline.is_expired:
            client = self.call()
            answer = client.ask(request)
            if answer is not None and "error" not in answer:
                return client
        raise AssertionError(f"{request} was never accepted")

    def event(self) -> Event:
        return self.inbox.get(timeout=SECONDS)

    def played(self, utterance: Utterance) -> None:
        self.control.notify(Record(utterance, "played", "", 1.5))

    def end(self) -> None:
        self.control.stop_accepting()
        self.control.stop()
        assert self.control.join(Deadline(SECONDS))
        for client in self.clients:
            client.close()
        while not self.inbox.empty():
            assert not isinstance(self.inbox.get(), WorkerCrashed)


Build = Callable[..., Setup]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    setups: list[Setup] = []

    def make(path: Path | None = None, storage_problem: str | None = None, **timing: float) -> Setup:
        setups.append(Setup(path or tmp_path / "run" / "control.sock", PeerTiming(**timing), storage_problem))
        return setups[-1]

    yield make
    for setup in setups:
        setup.end()


# --- requests


def test_say_returns_the_utterance_and_then_its_recorded_end(build: Build) -> None:
    setup = build()
    client = setup.call()
    accepted = client.ask({"say": "hello", "priority": 3})
    announced = setup.event()
    assert isinstance(announced, Announce)
    utterance = announced.utterance
    assert accepted == {"utterance": utterance.id}
    assert (utterance.text, utterance.priority, utterance.source) == ("hello", 3, "control")
    setup.control.notify(Record(utterance, "failed", "every service is down", 0.25))
    assert client.receive() == {
        "utterance": utterance.id,
        "state": "failed",
        "why": "every service is down",
        "seconds": 0.25,
    }


def test_accepted_text_reports_current_problems(build: Build) -> None:
    setup = build()
    client = setup.call()
    setup.control.notify(Status("no speaker", "idle", ("no speaker: waiting for any",), 80))
    assert client.ask({"say": "hello"})["troubles"] == ["no speaker: waiting for any"]
    assert client.ask({"begin": True})["troubles"] == ["no speaker: waiting for any"]
    setup.control.notify(STATUS)
    assert "troubles" not in client.ask({"say": "hello"})


def test_client_receives_only_its_own_utterances(build: Build) -> None:
    setup = build()
    one, two = setup.call(), setup.call()
    one.ask({"say": "one"})
    two.ask({"say": "two"})
    announced = [setup.event(), setup.event()]
    for event in reversed(announced):
        assert isinstance(event, Announce)
        setup.played(event.utterance)
    ids = {event.utterance.text: event.utterance.id for event in announced if isinstance(event, Announce)}
    assert one.receive()["utterance"] == ids["one"]
    assert two.receive()["utterance"] == ids["two"]
    assert one.ask({"status": True})["state"] == "idle"  # and nothing came in between


def test_streamed_text_is_announced_with_its_first_words(build: Build) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask({"begin": True, "priority": 5})["utterance"]
    for piece in (" \n", "One.", "", " Two."):
        client.send({"piece": piece})
    assert client.ask({"complete": True}) == {"completed": utterance}
    whole = Utterance(utterance, None, priority=5, source="control")
    expected = [Announce(whole), TextPiece(utterance, "One."), TextPiece(utterance, " Two."), TextComplete(utterance)]
    assert [setup.event() for _ in expected] == expected
    setup.played(whole)
    assert client.receive()["state"] == "played"


def test_streamed_text_without_words_fails_unannounced(build: Build) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask({"begin": True})["utterance"]
    client.send({"piece": "  \n"})
    assert client.ask({"complete": True}) == {"completed": utterance}
    ended = client.receive()
    assert (ended["state"], "nothing to say" in ended["why"]) == ("failed", True)
    assert setup.inbox.empty()


@pytest.mark.parametrize("words", [True, False])
def test_streamed_text_is_completed_when_its_client_disconnects(build: Build, words: bool) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask({"begin": True})["utterance"]
    if words:
        client.send({"piece": "One."})
        assert isinstance(setup.event(), Announce)
        assert setup.event() == TextPiece(utterance, "One.")
    client.close()
    if words:
        assert setup.event() == TextComplete(utterance)
    assert setup.call().ask({"status": True})["state"] == "idle"
    assert setup.inbox.empty()


def test_streamed_text_is_completed_when_its_client_times_out(build: Build) -> None:
    setup = build(piece_seconds=0.2)
    client = setup.call()
    utterance = client.ask({"begin": True})["utterance"]
    client.send({"piece": "One."})
    assert "too long" in client.receive()["error"]
    assert client.receive() is None
    assert isinstance(setup.event(), Announce)
    assert [setup.event(), setup.event()] == [TextPiece(utterance, "One."), TextComplete(utterance)]


def test_streamed_text_is_cut_at_the_length_limit(build: Build) -> None:
    setup = build()
    client = setup.call()
    client.ask({"begin": True})
    for _ in range(11):
        client.send({"piece": "x" * (MAX_TEXT_CHARACTERS // 10)})
    assert str(MAX_TEXT_CHARACTERS) in client.receive()["error"]
    events = [setup.event() for _ in range(12)]
    assert sum(len(event.text) for event in events if isinstance(event, TextPiece)) == MAX_TEXT_CHARACTERS
    assert isinstance(events[-1], TextComplete)
    assert "no text has been begun" in client.ask({"piece": "more"})["error"]


def test_piece_without_begin_and_second_begin_are_refused(build: Build) -> None:
    setup = build()
    client = setup.call()
    assert "begun" in client.ask({"piece": "x"})["error"]
    assert "begun" in client.ask({"complete": True})["error"]
    assert "utterance" in client.ask({"begin": True})
    assert "not complete" in client.ask({"begin": True})["error"]


def test_hush_is_reported_and_cancels_the_streamed_text(build: Build) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask({"begin": True})["utterance"]
    assert client.ask({"hush": True}) == {"hush": True}
    assert setup.event() == Hush("control")
    assert client.receive() == {"utterance": utterance, "state": "cancelled", "why": "by control", "seconds": 0.0}
    assert "begun" in client.ask({"piece": "too late"})["error"]


def test_status_returns_the_last_notification(build: Build) -> None:
    setup = build()
    client = setup.call()
    setup.control.notify(Status("no microphone: gone; speaking", "speaking", ("no microphone: gone",), 40))
    answer = client.ask({"status": True})
    assert (answer["status"], answer["state"]) == ("no microphone: gone; speaking", "speaking")
    assert (answer["troubles"], answer["volume"]) == (["no microphone: gone"], 40)
    assert answer["version"]


def test_mutes_are_reported(build: Build) -> None:
    setup = build()
    for request, event in (
        ({"mute": True}, Mute(True, "control")),
        ({"mute": False}, Mute(False, "control")),
        ({"microphone": "mute"}, MicrophoneMute(True, "control")),
        ({"microphone": "unmute"}, MicrophoneMute(False, "control")),
    ):
        assert setup.call().ask(request) == request
        assert setup.event() == event


def test_volume_is_reported(build: Build) -> None:
    setup = build()
    assert setup.call().ask({"volume": 30}) == {"volume": 30}
    assert setup.event() == Volume(30, "control")


def test_values_that_cannot_be_stored_get_a_warning(build: Build) -> None:
    setup = build(storage_problem="disk full")
    for request in ({"volume": 30}, {"mute": True}, {"microphone": "unmute"}):
        answer = setup.call().ask(request)
        assert answer.items() >= request.items() and "disk full" in answer["warnings"][0]


def test_speech_requests_are_refused_in_captions_mode(build: Build) -> None:
    setup = build()
    setup.control.notify(Status("writing captions", "idle", (), None))
    client = setup.call()
    for request in ({"say": "hello"}, {"begin": True}, {"volume": 3}):
        assert "only listens" in client.ask(request)["error"]
    assert setup.inbox.empty()


def test_microphone_requests_are_refused_in_announce_mode(build: Build) -> None:
    setup = build()
    setup.control.notify(Status("ready to speak", "idle", (), 80, listens=False))
    assert "only speaks" in setup.call().ask({"microphone": "mute"})["error"]
    assert setup.inbox.empty()


def test_invalid_line_gets_an_error_and_the_next_request_is_served(build: Build) -> None:
    setup = build()
    client = setup.call()
    for line in (b"", b"hello", b"\xff\x00", b"[" * 1000, b'{"say": ""}'):
        client.socket.sendall(line + b"\n")
        assert "error" in client.receive()
    assert client.ask({"status": True})["status"] == "ready to speak"


# --- connections


def test_requests_of_a_disconnected_client_are_carried_out(build: Build) -> None:
    setup = build(lines_per_second=5)
    client = setup.call()
    client.socket.sendall(b"".join(json.dumps({"say": f"text {number}"}).encode() + b"\n" for number in range(8)))
    client.close()
    texts = [event.utterance.text for event in (setup.event() for _ in range(8)) if isinstance(event, Announce)]
    assert texts == [f"text {number}" for number in range(8)]


def test_half_closed_client_receives_its_responses(build: Build) -> None:
    setup = build()
    client = setup.call()
    client.send({"say": "hello"})
    client.socket.shutdown(socket.SHUT_WR)
    event = setup.event()
    assert isinstance(event, Announce)
    assert client.receive() == {"utterance": event.utterance.id}
    setup.played(event.utterance)
    assert client.receive()["state"] == "played"
    assert client.receive() is None


def test_ninth_client_is_refused_until_another_disconnects(build: Build) -> None:
    setup = build()
    inside = [setup.call() for _ in range(MAX_ACTIVE_PEERS)]
    for client in inside:
        assert client.ask({"status": True})["state"] == "idle"
    ninth = setup.call()
    assert "8 programs" in ninth.receive()["error"]
    assert ninth.receive() is None
    inside[0].socket.shutdown(socket.SHUT_RDWR)
    assert inside[0].receive() is None
    deadline = Deadline(10.0)  # the place is free a moment after its owner has seen the end
    answer = None
    while not deadline.is_expired and (answer is None or "state" not in answer):
        answer = setup.call().ask({"status": True})
    assert answer is not None and answer["state"] == "idle"


def test_waiting_clients_do_not_count_against_the_limit(build: Build) -> None:
    setup = build()
    waiting = [setup.accepted_client({"say": f"sentence {number}"}) for number in range(MAX_ACTIVE_PEERS + 2)]
    said = [setup.event() for _ in waiting]
    assert setup.call().ask({"hush": True}) == {"hush": True}
    assert isinstance(setup.event(), Hush)
    for client, event in zip(waiting, said, strict=True):
        assert isinstance(event, Announce)
        setup.played(event.utterance)
        assert client.receive()["state"] == "played"


def test_waiting_clients_are_limited_too(build: Build) -> None:
    setup = build()
    waiting = [setup.accepted_client({"say": f"sentence {number}"}) for number in range(MAX_PEERS)]
    assert f"{len(waiting)} programs" in setup.call().receive()["error"]


def test_idle_clients_and_incomplete_lines_time_out(build: Build, tmp_path: Path) -> None:
    idle = build(idle_seconds=0.3).call()
    dripping = build(tmp_path / "other" / "control.sock", line_seconds=0.2).call()
    dripping.socket.sendall(b'{"say": "hel')
    for client in (dripping, idle):
        assert "too long" in client.receive()["error"]
        assert client.receive() is None


def test_client_that_awaits_an_utterance_is_not_idle(build: Build) -> None:
    setup = build(idle_seconds=0.2)
    waiting = setup.accepted_client({"say": "a long story"})
    event = setup.event()
    assert isinstance(event, Announce)
    for _ in range(2):
        assert "too long" in setup.call().receive()["error"]  # so more than that time has gone by
    setup.played(event.utterance)
    assert waiting.receive()["state"] == "played"


def test_idle_time_starts_after_the_last_response(build: Build) -> None:
    setup = build(idle_seconds=2.0)
    client = setup.accepted_client({"say": "long"})
    announced = setup.event()
    assert isinstance(announced, Announce)
    other = setup.call()
    assert other.receive() == {"error": "this took too long"}  # so that time has passed
    told_at = time.monotonic()
    setup.played(announced.utterance)
    assert client.receive()["state"] == "played"
    answer = client.ask({"say": "next"})
    # Where this very test stood still for as long as that, it has been idle indeed.
    assert "utterance" in answer or time.monotonic() - told_at > 2.0


def test_client_that_does_not_read_is_disconnected(build: Build) -> None:
    setup = build(lines_per_second=1e6, line_seconds=0.5)
    deaf, other = setup.call(), setup.call()
    deaf.socket.settimeout(0.2)
    request = b'{"status": true}\n' * 1000
    with pytest.raises(OSError):  # the answers fill every buffer there is; then the server reads no more
        for _ in range(1000):
            deaf.socket.sendall(request)
    assert other.ask({"status": True})["state"] == "idle"
    deaf.socket.settimeout(SECONDS)
    with pytest.raises(OSError):  # a connection that has been closed cannot be written to
        for _ in range(1000):
            deaf.socket.sendall(request)


def test_endless_line_is_disconnected_with_bounded_memory(build: Build) -> None:
    setup = build()
    other = setup.call()
    before = resident()
    giant = setup.call()
    chunk, written = b"x" * 65536, 0
    with pytest.raises(OSError):
        for _ in range(128):  # 8 MiB
            giant.socket.sendall(chunk)
            written += len(chunk)
    assert written < 2 * 1024 * 1024
    assert resident() - before < 4 * 1024 * 1024
    assert other.ask({"status": True})["state"] == "idle"


def test_flooding_client_is_throttled_and_others_are_served(build: Build) -> None:
    began = time.monotonic()
    setup = build(lines_per_second=20)
    loud, other = setup.call(), setup.call()
    loud.socket.setblocking(False)
    written = 0
    while True:
        try:
            written += loud.socket.send(b'{"hush": true}\n' * 4096)
        except BlockingIOError:
            break
    assert written > 40 * 15
    for _ in range(10):
        assert other.ask({"status": True})["state"] == "idle"
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
            assert other.ask({"status": True})["state"] == "idle"
    assert other.ask({"say": "still here"})["utterance"]
    for _ in range(200):  # those that have gone already may still stand in the queue before us
        answer = setup.call().ask({"status": True})
        if answer is not None and "state" in answer:
            break
    assert answer["state"] == "idle"
    assert setup.control.is_alive


def test_accept_pauses_while_the_process_has_no_descriptor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    control = ControlServer(tmp_path / "control.sock", inbox.put)
    control.open()
    control.notify(STATUS)
    client = Client(tmp_path / "control.sock")
    client.send({"status": True})
    tried = _LogSignal()
    logging.getLogger("agent.frontends.control.server").addHandler(tried)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    client.socket.settimeout(ACCEPT_PAUSE_SECONDS / 2)
    began = time.monotonic()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        control.start()
        assert tried.logged.wait(SECONDS)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logging.getLogger("agent.frontends.control.server").removeHandler(tried)
    client.socket.settimeout(SECONDS)
    assert client.socket.recv(65536).startswith(b'{"status"')
    rounds, levels = control.heartbeats, {record.levelname for record in caplog.records}
    tries = 1 + (time.monotonic() - began) / ACCEPT_PAUSE_SECONDS
    assert levels == {"WARNING"} and len(caplog.records) <= tries
    assert rounds < 20 * tries
    client.close()
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
    client.sendall(b'{"status": true}\\n')
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
        assert answer["error"].startswith("you may not")
        monkeypatch.undo()
        assert setup.call().ask({"status": True})["state"] == "idle"
        setup.end()


def test_group_member_is_accepted(build: Build) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        setup = build(Path(directory) / "run" / "control.sock")
        answer = json.loads(stranger(setup.path, NOBODY, setup.path.stat().st_gid))
        assert answer["state"] == "idle"
        setup.end()


# --- shutdown


def test_stop_accepting_refuses_new_texts_and_still_reports_ends(build: Build) -> None:
    setup = build()
    client = setup.call()
    client.ask({"say": "hello"})
    event = setup.event()
    assert isinstance(event, Announce)
    setup.control.stop_accepting()
    assert "ending" in client.ask({"say": "more"})["error"]
    assert not setup.path.exists()
    setup.played(event.utterance)
    assert client.receive()["state"] == "played"
    assert client.ask({"status": True})["state"] == "idle"


def test_stop_cancels_the_awaited_utterances(build: Build) -> None:
    setup = build()
    client = setup.call()
    utterance = client.ask({"say": "hello"})["utterance"]
    setup.control.stop_accepting()
    setup.control.stop()
    ended = client.receive()
    assert (ended["utterance"], ended["state"]) == (utterance, "cancelled")
    assert client.receive() is None
    assert setup.control.join(Deadline(SECONDS))


def test_stop_and_abort_do_not_wait_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    for end in ("stop", "abort"):
        setup = Setup(tmp_path / end, PeerTiming(lines_per_second=1e6, line_seconds=600.0))
        deaf = setup.call()
        deaf.socket.setblocking(False)
        try:
            while True:
                deaf.socket.send(b'{"status": true}\n' * 100)
        except OSError:
            pass
        getattr(setup.control, end)()
        assert setup.control.join(Deadline(SECONDS))
        setup.end()
        assert not setup.path.exists()


def test_stop_is_idempotent_and_safe_before_start(tmp_path: Path) -> None:
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    control = ControlServer(tmp_path / "control.sock", inbox.put)
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
        ControlServer(tmp_path / "control.sock", inbox.put).open()
    control = ControlServer(tmp_path / "control.sock", inbox.put, required=False)
    control.open()
    control.start()
    control.notify(STATUS)
    control.stop_accepting()
    control.stop()
    assert control.join(Deadline(SECONDS))
    assert inbox.empty() and (tmp_path / "control.sock").read_text() == "precious"


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

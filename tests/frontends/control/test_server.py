"""The control socket against everybody who may call: polite, slow, loud, foreign, and too many."""

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
from agent.frontends.control.peer import WaitPolicy
from agent.frontends.control.server import DEAF_SECONDS, MOST_CALLERS, MOST_WAITING, Control
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


class Program:
    """One program that calls: a line out, a line in."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))  # with a time-out it would not wait for its turn, but fail at once
        self.socket.settimeout(SECONDS)
        self._file = self.socket.makefile("rb")

    def send(self, request: object) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> Any:
        """The next answer; ``None`` where the connection has ended."""
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


class House:
    """A control frontend, and the inbox of a daemon of which nothing else is there."""

    def __init__(self, path: Path, patience: WaitPolicy) -> None:
        self.path = path
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.control = Control(path, self.inbox.put, patience=patience)
        self.control.open()
        self.control.tell(STATUS)
        self.control.start()
        self.programs: list[Program] = []

    def call(self) -> Program:
        program = Program(self.path)
        self.programs.append(program)
        return program

    def heard(self, request: object) -> Program:
        """A program whose request was accepted, however often it takes: who is slow may be let go as idle before."""
        deadline = Deadline(SECONDS)
        while not deadline.is_expired:
            program = self.call()
            answer = program.ask(request)
            if answer is not None and "error" not in answer:
                return program
        raise AssertionError(f"nobody was quick enough with {request}")

    def event(self) -> Event:
        return self.inbox.get(timeout=SECONDS)

    def played(self, utterance: Utterance) -> None:
        self.control.tell(Record(utterance, "played", "", 1.5))

    def end(self) -> None:
        self.control.shut()
        self.control.stop()
        assert self.control.join(Deadline(SECONDS))
        for program in self.programs:
            program.close()
        while not self.inbox.empty():
            assert not isinstance(self.inbox.get(), WorkerCrashed)


Build = Callable[..., House]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    houses: list[House] = []

    def make(path: Path | None = None, **patience: float) -> House:
        houses.append(House(path or tmp_path / "run" / "control.sock", WaitPolicy(**patience)))
        return houses[-1]

    yield make
    for house in houses:
        house.end()


# --- what may be asked


def test_a_text_is_accepted_at_once_and_its_end_is_told_once_it_is_recorded(build: Build) -> None:
    house = build()
    program = house.call()
    accepted = program.ask({"say": "hello", "priority": 3})
    announced = house.event()
    assert isinstance(announced, Announce)
    utterance = announced.utterance
    assert accepted == {"utterance": utterance.id}
    assert (utterance.text, utterance.priority, utterance.source) == ("hello", 3, "control")
    house.control.tell(Record(utterance, "failed", "every service is down", 0.25))
    assert program.receive() == {
        "utterance": utterance.id,
        "state": "failed",
        "why": "every service is down",
        "seconds": 0.25,
    }


def test_whoever_is_accepted_is_told_what_may_make_it_late(build: Build) -> None:
    house = build()
    program = house.call()
    house.control.tell(Status("no speaker", "idle", ("no speaker: waiting for any",), 80))
    assert program.ask({"say": "hello"})["troubles"] == ["no speaker: waiting for any"]
    assert program.ask({"begin": True})["troubles"] == ["no speaker: waiting for any"]
    house.control.tell(STATUS)
    assert "troubles" not in program.ask({"say": "hello"})


def test_everybody_is_told_of_their_own_utterances_only(build: Build) -> None:
    house = build()
    one, two = house.call(), house.call()
    one.ask({"say": "one"})
    two.ask({"say": "two"})
    announced = [house.event(), house.event()]
    for event in reversed(announced):
        assert isinstance(event, Announce)
        house.played(event.utterance)
    ids = {event.utterance.text: event.utterance.id for event in announced if isinstance(event, Announce)}
    assert one.receive()["utterance"] == ids["one"]
    assert two.receive()["utterance"] == ids["two"]
    assert one.ask({"status": True})["state"] == "idle"  # and nothing came in between


def test_a_text_may_come_piece_by_piece_and_begins_with_its_first_words(build: Build) -> None:
    house = build()
    program = house.call()
    utterance = program.ask({"begin": True, "priority": 5})["utterance"]
    for piece in (" \n", "One.", "", " Two."):
        program.send({"piece": piece})
    assert program.ask({"complete": True}) == {"completed": utterance}
    whole = Utterance(utterance, None, priority=5, source="control")
    expected = [Announce(whole), TextPiece(utterance, "One."), TextPiece(utterance, " Two."), TextComplete(utterance)]
    assert [house.event() for _ in expected] == expected
    house.played(whole)
    assert program.receive()["state"] == "played"


def test_a_text_without_words_is_never_announced_and_fails(build: Build) -> None:
    house = build()
    program = house.call()
    utterance = program.ask({"begin": True})["utterance"]
    program.send({"piece": "  \n"})
    assert program.ask({"complete": True}) == {"completed": utterance}
    ended = program.receive()
    assert (ended["state"], "nothing to say" in ended["why"]) == ("failed", True)
    assert house.inbox.empty()


@pytest.mark.parametrize("words", [True, False])
def test_what_was_begun_is_complete_when_its_writer_goes(build: Build, words: bool) -> None:
    """A text that never ends would keep the device busy, and the microphone shut, for good."""
    house = build()
    program = house.call()
    utterance = program.ask({"begin": True})["utterance"]
    if words:
        program.send({"piece": "One."})
        assert isinstance(house.event(), Announce)
        assert house.event() == TextPiece(utterance, "One.")
    program.close()
    if words:
        assert house.event() == TextComplete(utterance)
    assert house.call().ask({"status": True})["state"] == "idle"
    assert house.inbox.empty()


def test_what_was_begun_is_complete_when_its_writer_is_silent_for_too_long(build: Build) -> None:
    house = build(piece_seconds=0.2)
    program = house.call()
    utterance = program.ask({"begin": True})["utterance"]
    program.send({"piece": "One."})
    assert "too long" in program.receive()["error"]
    assert program.receive() is None
    assert isinstance(house.event(), Announce)
    assert [house.event(), house.event()] == [TextPiece(utterance, "One."), TextComplete(utterance)]


def test_a_text_in_pieces_is_no_longer_than_one_at_once(build: Build) -> None:
    house = build()
    program = house.call()
    program.ask({"begin": True})
    for _ in range(11):
        program.send({"piece": "x" * (MAX_TEXT_CHARACTERS // 10)})
    assert str(MAX_TEXT_CHARACTERS) in program.receive()["error"]
    events = [house.event() for _ in range(12)]
    assert sum(len(event.text) for event in events if isinstance(event, TextPiece)) == MAX_TEXT_CHARACTERS
    assert isinstance(events[-1], TextComplete)
    assert "no text has been begun" in program.ask({"piece": "more"})["error"]


def test_pieces_without_a_beginning_and_two_beginnings_are_refused(build: Build) -> None:
    house = build()
    program = house.call()
    assert "begun" in program.ask({"piece": "x"})["error"]
    assert "begun" in program.ask({"complete": True})["error"]
    assert "utterance" in program.ask({"begin": True})
    assert "not complete" in program.ask({"begin": True})["error"]


def test_hush_goes_to_the_inbox_and_ends_what_was_begun(build: Build) -> None:
    house = build()
    program = house.call()
    utterance = program.ask({"begin": True})["utterance"]
    assert program.ask({"hush": True}) == {"hush": True}
    assert house.event() == Hush("control")
    assert program.receive() == {"utterance": utterance, "state": "cancelled", "why": "by control", "seconds": 0.0}
    assert "begun" in program.ask({"piece": "too late"})["error"]


def test_the_status_is_the_last_that_was_told(build: Build) -> None:
    house = build()
    program = house.call()
    house.control.tell(Status("no microphone: gone; speaking", "speaking", ("no microphone: gone",), 40))
    answer = program.ask({"status": True})
    assert (answer["status"], answer["state"]) == ("no microphone: gone; speaking", "speaking")
    assert (answer["troubles"], answer["volume"]) == (["no microphone: gone"], 40)
    assert answer["version"]


def test_mutes_go_to_the_inbox(build: Build) -> None:
    house = build()
    for request, event in (
        ({"mute": True}, Mute(True, "control")),
        ({"mute": False}, Mute(False, "control")),
        ({"microphone": "mute"}, MicrophoneMute(True, "control")),
        ({"microphone": "unmute"}, MicrophoneMute(False, "control")),
    ):
        assert house.call().ask(request) == request
        assert house.event() == event


def test_the_volume_goes_to_the_inbox(build: Build) -> None:
    house = build()
    assert house.call().ask({"volume": 30}) == {"volume": 30}
    assert house.event() == Volume(30, "control")


def test_a_daemon_that_only_listens_says_so(build: Build) -> None:
    house = build()
    house.control.tell(Status("writing captions", "idle", (), None))
    program = house.call()
    for request in ({"say": "hello"}, {"begin": True}, {"volume": 3}):
        assert "only listens" in program.ask(request)["error"]
    assert house.inbox.empty()


def test_a_daemon_that_only_speaks_says_so(build: Build) -> None:
    """A microphone that is not there was muted with success."""
    house = build()
    house.control.tell(Status("ready to speak", "idle", (), 80, listens=False))
    assert "only speaks" in house.call().ask({"microphone": "mute"})["error"]
    assert house.inbox.empty()


def test_what_is_no_request_is_answered_in_a_sentence_and_the_next_one_is_granted(build: Build) -> None:
    house = build()
    program = house.call()
    for line in (b"", b"hello", b"\xff\x00", b"[" * 1000, b'{"say": ""}'):
        program.socket.sendall(line + b"\n")
        assert "error" in program.receive()
    assert program.ask({"status": True})["status"] == "ready to speak"


# --- who calls, and how


def test_wishes_of_who_does_not_wait_for_answers_are_granted_all_the_same(build: Build) -> None:
    """A script that writes some lines and leaves: the answer to the first breaks on a closed connection."""
    house = build(per_second=5)
    program = house.call()
    program.socket.sendall(b"".join(json.dumps({"say": f"text {number}"}).encode() + b"\n" for number in range(8)))
    program.close()
    texts = [event.utterance.text for event in (house.event() for _ in range(8)) if isinstance(event, Announce)]
    assert texts == [f"text {number}" for number in range(8)]


def test_who_has_said_all_may_still_read(build: Build) -> None:
    house = build()
    program = house.call()
    program.send({"say": "hello"})
    program.socket.shutdown(socket.SHUT_WR)
    event = house.event()
    assert isinstance(event, Announce)
    assert program.receive() == {"utterance": event.utterance.id}
    house.played(event.utterance)
    assert program.receive()["state"] == "played"
    assert program.receive() is None


def test_a_ninth_program_is_told_to_try_again_and_room_is_made_by_who_leaves(build: Build) -> None:
    house = build()
    inside = [house.call() for _ in range(MOST_CALLERS)]
    for program in inside:
        assert program.ask({"status": True})["state"] == "idle"
    ninth = house.call()
    assert "8 programs" in ninth.receive()["error"]
    assert ninth.receive() is None
    inside[0].socket.shutdown(socket.SHUT_RDWR)
    assert inside[0].receive() is None
    deadline = Deadline(10.0)  # the place is free a moment after its owner has seen the end
    answer = None
    while not deadline.is_expired and (answer is None or "state" not in answer):
        answer = house.call().ask({"status": True})
    assert answer is not None and answer["state"] == "idle"


def test_who_only_waits_until_its_text_has_been_said_keeps_nobody_out(build: Build) -> None:
    """Eight sentences that waited, and whoever would have hushed them was told to try again."""
    house = build()
    waiting = [house.heard({"say": f"sentence {number}"}) for number in range(MOST_CALLERS + 2)]
    said = [house.event() for _ in waiting]
    assert house.call().ask({"hush": True}) == {"hush": True}
    assert isinstance(house.event(), Hush)
    for program, event in zip(waiting, said, strict=True):
        assert isinstance(event, Announce)
        house.played(event.utterance)
        assert program.receive()["state"] == "played"


def test_those_who_wait_are_not_without_number_either(build: Build) -> None:
    house = build()
    waiting = [house.heard({"say": f"sentence {number}"}) for number in range(MOST_WAITING)]
    assert f"{len(waiting)} programs" in house.call().receive()["error"]


def test_who_is_idle_or_never_ends_a_line_makes_room(build: Build, tmp_path: Path) -> None:
    idle = build(idle_seconds=0.3).call()
    dripping = build(tmp_path / "other" / "control.sock", line_seconds=0.2).call()
    dripping.socket.sendall(b'{"say": "hel')
    for program in (dripping, idle):
        assert "too long" in program.receive()["error"]
        assert program.receive() is None


def test_who_waits_for_an_utterance_is_not_idle(build: Build) -> None:
    house = build(idle_seconds=0.2)
    waiting = house.heard({"say": "a long story"})
    event = house.event()
    assert isinstance(event, Announce)
    for _ in range(2):
        assert "too long" in house.call().receive()["error"]  # so more than that time has gone by
    house.played(event.utterance)
    assert waiting.receive()["state"] == "played"


def test_who_has_waited_long_for_an_utterance_may_ask_for_the_next_one(build: Build) -> None:
    """Whoever had something said that lasted longer than the patience with the idle was told of its end, and in that
    moment that this took too long."""
    house = build(idle_seconds=2.0)
    program = house.heard({"say": "long"})
    announced = house.event()
    assert isinstance(announced, Announce)
    other = house.call()
    assert other.receive() == {"error": "this took too long"}  # so that time has passed
    told_at = time.monotonic()
    house.played(announced.utterance)
    assert program.receive()["state"] == "played"
    answer = program.ask({"say": "next"})
    # Where this very test stood still for as long as that, it has been idle indeed.
    assert "utterance" in answer or time.monotonic() - told_at > 2.0


def test_who_does_not_read_is_let_go_and_nobody_else_notices(build: Build) -> None:
    house = build(per_second=1e6, line_seconds=0.5)
    deaf, other = house.call(), house.call()
    deaf.socket.settimeout(0.2)
    request = b'{"status": true}\n' * 1000
    with pytest.raises(OSError):  # the answers fill every buffer there is; then nobody reads what is written
        for _ in range(1000):
            deaf.socket.sendall(request)
    assert other.ask({"status": True})["state"] == "idle"
    deaf.socket.settimeout(SECONDS)
    with pytest.raises(OSError):  # a connection that has been closed cannot be written to
        for _ in range(1000):
            deaf.socket.sendall(request)


def test_a_line_that_does_not_end_costs_its_writer_the_connection_and_nobody_memory(build: Build) -> None:
    house = build()
    other = house.call()
    before = resident()
    giant = house.call()
    chunk, written = b"x" * 65536, 0
    with pytest.raises(OSError):
        for _ in range(128):  # 8 MiB
            giant.socket.sendall(chunk)
            written += len(chunk)
    assert written < 2 * 1024 * 1024
    assert resident() - before < 4 * 1024 * 1024
    assert other.ask({"status": True})["state"] == "idle"


def test_who_writes_without_a_pause_is_read_at_a_pace_and_the_others_are_answered(build: Build) -> None:
    began = time.monotonic()
    house = build(per_second=20)
    loud, other = house.call(), house.call()
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
    assert house.event() == Hush("control")
    read = house.inbox.qsize()  # of thousands that were written
    assert read <= 20 * (1 + time.monotonic() - began)


def test_a_thousand_connections_are_survived_and_the_next_is_served(build: Build) -> None:
    house = build()
    other = house.call()
    for number in range(1000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(house.path))
        if number % 100 == 0:
            assert other.ask({"status": True})["state"] == "idle"
    assert other.ask({"say": "still here"})["utterance"]
    for _ in range(200):  # those that have gone already may still stand in the queue before us
        answer = house.call().ask({"status": True})
        if answer is not None and "state" in answer:
            break
    assert answer["state"] == "idle"
    assert house.control.is_alive


def test_where_the_process_has_no_descriptor_left_callers_wait_and_are_served_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener that cannot accept stays readable: without a pause the loop would spin, and the log with it."""
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    control = Control(tmp_path / "control.sock", inbox.put)
    control.open()
    control.tell(STATUS)
    program = Program(tmp_path / "control.sock")
    program.send({"status": True})
    tried = HostFacts()
    logging.getLogger("agent.frontends.control.server").addHandler(tried)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    program.socket.settimeout(DEAF_SECONDS / 2)
    began = time.monotonic()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        control.start()
        assert tried.told.wait(SECONDS)
        with pytest.raises(TimeoutError):
            program.socket.recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logging.getLogger("agent.frontends.control.server").removeHandler(tried)
    program.socket.settimeout(SECONDS)
    assert program.socket.recv(65536).startswith(b'{"status"')
    rounds, levels = control.heartbeats, {record.levelname for record in caplog.records}
    tries = 1 + (time.monotonic() - began) / DEAF_SECONDS
    assert levels == {"WARNING"} and len(caplog.records) <= tries
    assert rounds < 20 * tries
    program.close()
    control.shut()
    control.stop()
    assert control.join(Deadline(SECONDS)) and inbox.empty()


class HostFacts(logging.Handler):
    """Knows when something has been logged."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.told.set()


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


def test_another_user_is_kept_out_by_the_mode_and_refused_where_that_was_widened(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as directory:  # not below a directory that is shut to everybody else
        os.chmod(directory, 0o755)
        house = build(Path(directory) / "run" / "control.sock")
        if os.getuid() == 0:
            assert stranger(house.path, NOBODY, NOBODY) == "kept out"
        else:
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # only root can be somebody else: we move away
            monkeypatch.setattr(house.control._listener, "_group", -1)
        house.path.parent.chmod(0o755)
        house.path.chmod(0o666)
        answer = json.loads(stranger(house.path, NOBODY, NOBODY))
        assert answer["error"].startswith("you may not")
        monkeypatch.undo()
        assert house.call().ask({"status": True})["state"] == "idle"
        house.end()


def test_a_member_of_the_sockets_group_may(build: Build) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        house = build(Path(directory) / "run" / "control.sock")
        answer = json.loads(stranger(house.path, NOBODY, house.path.stat().st_gid))
        assert answer["state"] == "idle"
        house.end()


# --- the end


def test_after_shut_nobody_new_is_let_in_and_who_waits_is_still_told(build: Build) -> None:
    house = build()
    program = house.call()
    program.ask({"say": "hello"})
    event = house.event()
    assert isinstance(event, Announce)
    house.control.shut()
    assert "ending" in program.ask({"say": "more"})["error"]
    assert not house.path.exists()
    house.played(event.utterance)
    assert program.receive()["state"] == "played"
    assert program.ask({"status": True})["state"] == "idle"


def test_whoever_still_waits_at_the_end_is_told_that_it_is_the_end(build: Build) -> None:
    house = build()
    program = house.call()
    utterance = program.ask({"say": "hello"})["utterance"]
    house.control.shut()
    house.control.stop()
    ended = program.receive()
    assert (ended["utterance"], ended["state"]) == (utterance, "cancelled")
    assert program.receive() is None
    assert house.control.join(Deadline(SECONDS))


def test_stop_does_not_wait_for_who_does_not_read_and_abort_for_nobody(tmp_path: Path) -> None:
    for end in ("stop", "abort"):
        house = House(tmp_path / end, WaitPolicy(per_second=1e6, line_seconds=600.0))
        deaf = house.call()
        deaf.socket.setblocking(False)
        try:
            while True:
                deaf.socket.send(b'{"status": true}\n' * 100)
        except OSError:
            pass
        getattr(house.control, end)()
        assert house.control.join(Deadline(SECONDS))
        house.end()
        assert not house.path.exists()


def test_ending_twice_or_without_a_start_is_safe(tmp_path: Path) -> None:
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    control = Control(tmp_path / "control.sock", inbox.put)
    control.open()
    for _ in range(2):
        control.shut()
        control.stop()
        control.abort()
    assert control.join(Deadline(1.0))
    assert not (tmp_path / "control.sock").exists()


def test_a_place_that_cannot_be_had_is_a_mistake_only_where_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("precious")
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with pytest.raises(ConfigError):
        Control(tmp_path / "control.sock", inbox.put).open()
    control = Control(tmp_path / "control.sock", inbox.put, required=False)
    control.open()
    control.start()
    control.tell(STATUS)
    control.shut()
    control.stop()
    assert control.join(Deadline(SECONDS))
    assert inbox.empty() and (tmp_path / "control.sock").read_text() == "precious"


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

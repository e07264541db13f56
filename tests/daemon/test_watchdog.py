from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.daemon import supervisor
from agent.daemon.supervisor import Supervisor
from agent.daemon.watchdog import Watchdog
from agent.system.systemd import SystemdNotifier
from agent.system.threads import Worker


class Sleeper(Worker):
    """Beats when it is told to, and otherwise hangs in a call."""

    stall_timeout = 0.2

    def __init__(self) -> None:
        super().__init__("sleeper", lambda name, error: None)
        self.hangs, self.leave = threading.Event(), threading.Event()

    def run(self) -> None:
        self.hang_in_a_call()

    def hang_in_a_call(self) -> None:
        self.hangs.set()
        self.leave.wait(60)

    def stop(self) -> None:
        self.leave.set()

    abort = stop


class Stage:
    """A watchdog over one worker, with systemd at the other end."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.setblocking(False)
        self.worker, self.stream = Sleeper(), io.StringIO()
        self.supervisor = Supervisor([self.worker])
        self.watchdog = Watchdog(
            SystemdNotifier({"NOTIFY_SOCKET": str(folder / "notify")}), [self.supervisor], self.stream
        )
        self.supervisor.start()
        assert self.worker.hangs.wait(20.0)

    def petted(self) -> int:
        count = 0
        while True:
            try:
                count += self.socket.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                return count

    def until_stuck(self) -> None:
        until = time.monotonic() + 10
        while not self.watchdog.look() and time.monotonic() < until:
            self.worker.leave.wait(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.worker.stop()
    made.worker._thread.join(10)
    made.socket.close()


def test_it_is_petted_while_every_counter_moves(stage: Stage) -> None:
    for _ in range(5):
        stage.worker.heartbeat()
        assert stage.watchdog.look() == []
    assert stage.petted() == 5
    assert stage.stream.getvalue() == ""


def test_before_it_is_left_alone_the_stacks_are_told_once(stage: Stage) -> None:
    stage.until_stuck()
    stage.petted()
    told = stage.stream.getvalue()
    for _ in range(3):
        assert stage.watchdog.look() == ["sleeper"]
    assert stage.petted() == 0
    assert 'thread "sleeper"' in told and "hang_in_a_call" in told and 'thread "MainThread"' in told
    assert stage.stream.getvalue() == told


def test_a_worker_that_moves_again_is_petted_again_and_the_next_time_is_told_anew(stage: Stage) -> None:
    stage.until_stuck()
    told = len(stage.stream.getvalue())
    stage.petted()
    stage.worker.heartbeat()
    assert stage.watchdog.look() == []
    assert stage.petted() == 1
    stage.until_stuck()
    assert len(stage.stream.getvalue()) > told


@pytest.mark.parametrize("jump", [2.0, 4.9, 3600.0])
def test_time_in_which_the_whole_process_stood_still_counts_for_no_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """After SIGSTOP and SIGCONT the monotonic clock has jumped: once every worker looked stuck then. After two
    to five seconds of it the daemon was restarted one time in four."""
    now = time.monotonic()
    stage.worker.heartbeat()
    assert stage.watchdog.look() == []
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now + jump)
    assert stage.watchdog.look() == []
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now + jump + 0.5)
    assert stage.watchdog.look() == ["sleeper"]  # and from then on it counts again

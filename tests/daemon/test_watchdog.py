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
from agent.system.threads import Deadline, Worker


class Sleeper(Worker):
    """A worker that hangs in a call; the test sends its heartbeats."""

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


class Setup:
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

    def pings(self) -> int:
        count = 0
        while True:
            try:
                count += self.socket.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                return count

    def until_stuck(self) -> None:
        until = time.monotonic() + 10
        while not self.watchdog.check() and time.monotonic() < until:
            self.worker.leave.wait(0.02)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    yield made
    made.worker.stop()
    assert made.worker.join(Deadline(10.0))
    made.socket.close()


def test_check_pings_while_every_worker_makes_progress(setup: Setup) -> None:
    for _ in range(5):
        setup.worker.heartbeat()
        assert setup.watchdog.check() == []
    assert setup.pings() == 5
    assert setup.stream.getvalue() == ""


def test_stall_ends_pings_and_dumps_stacks_once(setup: Setup) -> None:
    setup.until_stuck()
    setup.pings()
    logged = setup.stream.getvalue()
    for _ in range(3):
        assert setup.watchdog.check() == ["sleeper"]
    assert setup.pings() == 0
    assert 'thread "sleeper"' in logged and "hang_in_a_call" in logged and 'thread "MainThread"' in logged
    assert setup.stream.getvalue() == logged


def test_recovery_resumes_pings_and_the_next_stall_is_logged_again(setup: Setup) -> None:
    setup.until_stuck()
    logged = len(setup.stream.getvalue())
    setup.pings()
    setup.worker.heartbeat()
    assert setup.watchdog.check() == []
    assert setup.pings() == 1
    setup.until_stuck()
    assert len(setup.stream.getvalue()) > logged


@pytest.mark.parametrize("jump", [2.0, 4.9, 3600.0])
def test_pause_of_the_whole_process_is_no_stall(setup: Setup, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    now = time.monotonic()
    setup.worker.heartbeat()
    assert setup.watchdog.check() == []
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now + jump)
    assert setup.watchdog.check() == []
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now + jump + 0.5)
    assert setup.watchdog.check() == ["sleeper"]  # the time counts again

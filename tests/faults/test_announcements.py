"""Row 68: the daemon is killed while announcements are queued, spoken and stored, and restarted."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fault_rows import Record
from support.local_server import LocalServerProcess
from support.supervised import Supervised

from agent.client import Client, ConnectionLost, NotRunning, Speech
from agent.system.threads import Deadline

PROGRAMS = 8
OPEN_AT_ONCE = 10
"""Announcements of one program that have not ended."""
TIMEOUT_SECONDS = 60.0
SMALL_DISK_BYTES, FULL_DISK_BYTES = 64 * 1024, 16 * 1024
"""Room for each file: enough if the log is emptied; enough for the empty table only."""


class Progress:
    """The number of announcements that were accepted and that ended. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, 20 * TIMEOUT_SECONDS), f"{self.count} of {count}"


class Program(threading.Thread):
    """One program. It sends each announcement until it is accepted, with the same id, and waits for the ends."""

    def __init__(self, number: int, count: int, path: Path, progress: Progress) -> None:
        super().__init__(name=f"program {number}", daemon=True)
        self._path, self._progress = path, progress
        source = random.Random(number)
        self.announcements = [self._announcement(f"{number}-{index}", source) for index in range(count)]
        self.error: BaseException | None = None

    @staticmethod
    def _announcement(name: str, source: random.Random) -> dict[str, Any]:
        kinds: list[dict[str, Any]] = [
            *[{"priority": rank} for rank in (-5, 0, 0, 0, 5, 5)],
            {"priority": "important"},
            {"priority": "notification"},
            {"priority": 0, "ttl_seconds": source.uniform(0.01, 2.0)},
            {"priority": 0, "is_cancelled": True},
        ]
        return {"id": name, "text": f"word{name}", **source.choice(kinds)}

    def run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.error = error

    def _send_all(self) -> None:
        unsent = deque(self.announcements)
        awaited: dict[str, dict[str, Any]] = {}
        deadline = Deadline(20 * TIMEOUT_SECONDS)
        while unsent or awaited:
            assert not deadline.is_expired
            with contextlib.suppress(NotRunning, ConnectionLost), self._connect() as client:
                # After a restart the daemon knows the accepted ones and answers with their records.
                speeches = deque(self._say(client, each) for each in awaited.values())
                while unsent or speeches:
                    while unsent and len(speeches) < OPEN_AT_ONCE:
                        speeches.append(self._say(client, unsent[0]))
                        sent = unsent.popleft()
                        awaited[sent["id"]] = sent
                        self._progress.add()
                    speech = speeches.popleft()
                    speech.wait(10 * TIMEOUT_SECONDS)
                    del awaited[speech.id]
                    self._progress.add()

    @staticmethod
    def _say(client: Client, announcement: dict[str, Any]) -> Speech:
        options = {name: value for name, value in announcement.items() if name not in ("text", "is_cancelled")}
        speech = client.say(announcement["text"], **options)
        if announcement.get("is_cancelled"):
            speech.cancel()
        return speech

    def _connect(self) -> Client:
        deadline = Deadline(TIMEOUT_SECONDS)
        while True:
            try:
                return Client(str(self._path), timeout=TIMEOUT_SECONDS)
            except (NotRunning, ConnectionLost):
                assert not deadline.is_expired
                threading.Event().wait(0.02)  # until the daemon listens again


class Run:
    """All programs, and what became of their announcements."""

    def __init__(self, folder: Path, count: int) -> None:
        self.progress = Progress()
        self.folder = folder
        self.programs = [
            Program(number, count // PROGRAMS, folder / "socket", self.progress) for number in range(PROGRAMS)
        ]
        for program in self.programs:
            program.start()

    def join(self) -> None:
        for program in self.programs:
            program.join(20 * TIMEOUT_SECONDS)
            assert not program.is_alive() and program.error is None, program.error
        with Client(str(self.folder / "socket")) as client:
            self.records = {record["id"]: record for record in client.history()}

    def check(self) -> dict[str, int]:
        """Assert that each announcement was heard once or recorded, in order; return how many ended in each state."""
        lives: dict[str, list[str]] = defaultdict(list)
        for line in (self.folder / "notes").read_text().splitlines():
            pid, name = line.split()
            lives[name] += [] if pid in lives[name] else [pid]  # an interrupted one continues in the same process
        sent = [each for program in self.programs for each in program.announcements]
        states: dict[str, int] = defaultdict(int)
        for each in sent:
            state = self.records[each["id"]]["state"]
            states[state] += 1
            assert len(lives[each["id"]]) <= 1, f"{each} was heard twice"
            assert state in ("played", "interrupted", "cancelled", "expired", "dropped"), each
            assert len(lives[each["id"]]) == 1 or state != "played", f"{each} was not heard"
        started = {name: index for index, name in enumerate(lives) if lives[name]}
        for program in self.programs:
            by_priority: dict[object, list[int]] = defaultdict(list)
            for each in program.announcements:
                if each["id"] in started and "ttl_seconds" not in each:  # an expired one may be sent again, and is late
                    by_priority[each["priority"]].append(started[each["id"]])
            for places in by_priority.values():
                assert places == sorted(places), "spoken in another order than sent"
        return dict(states)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    with LocalServerProcess(tmp_path_factory.mktemp("server"), "--speech", "tone", "--recognition", "none") as running:
        yield running


@pytest.mark.parametrize(
    ("count", "kills"), [(40, 2), pytest.param(1000, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_row_68_each_announcement_is_heard_once_or_recorded_after_kills(
    server: LocalServerProcess, tmp_path: Path, record_row: Record, count: int, kills: int
) -> None:
    source = random.Random(68)
    moments = sorted(source.sample(range(1, 2 * count - PROGRAMS), kills))
    daemon = Supervised(server.ws, tmp_path)
    try:
        run = Run(tmp_path, count)
        for moment in moments:
            run.progress.wait(moment)
            threading.Event().wait(source.uniform(0.0, 0.3))  # also between two commits
            daemon.kill()
        run.join()
    finally:
        code = daemon.stop()
    states = run.check()
    record_row(68, f"{count} announcements, {kills} kills: {states}")
    assert code == 0 and states["played"] > count / 4


def disk_small(folder: Path) -> tuple[str, ...]:
    """Return a command prefix: no file of the daemon grows beyond some bytes, and the reserve is not created."""
    return ("prlimit", f"--fsize={SMALL_DISK_BYTES}")


def disk_full(folder: Path) -> tuple[str, ...]:
    return ("prlimit", f"--fsize={FULL_DISK_BYTES}")


def disk_readonly(folder: Path) -> tuple[str, ...]:
    (folder / "state").write_bytes(b"")  # no directory: every write is refused, also those of root
    return ()


@pytest.mark.parametrize(("fault", "warnings"), [(disk_small, 0), (disk_full, 1), (disk_readonly, 1)])
def test_row_68_each_announcement_is_heard_once_or_recorded_without_a_disk(
    server: LocalServerProcess,
    tmp_path: Path,
    record_row: Record,
    fault: Callable[[Path], tuple[str, ...]],
    warnings: int,
) -> None:
    daemon = Supervised(server.ws, tmp_path, prefix=fault(tmp_path))
    try:
        run = Run(tmp_path, 16)
        run.join()
    finally:
        code = daemon.stop()
    assert code == 0
    states = run.check()
    record_row(68, f"{fault.__name__}: {states}")
    assert "interrupted" not in states
    assert (tmp_path / "log").read_text().count("announcements are lost at the next restart") == warnings

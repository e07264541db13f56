"""Row 70: the daemon is killed while timers are set and ring."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.local_server import LocalServerProcess

from agent.system.threads import Deadline

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_SECONDS = 60.0


def start(url: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "support.timer_daemon", url, str(folder)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stderr=log, stdout=log, env=environment)


def lines(folder: Path, first: str) -> list[list[str]]:
    path = folder / "notes"
    text = path.read_text() if path.exists() else ""
    return [line.split() for line in text.splitlines() if line.startswith(first)]


def await_notes(folder: Path, is_enough: Callable[[], bool]) -> None:
    """Wait for lines in the notes of another process."""
    deadline = Deadline(TIMEOUT_SECONDS)
    while not is_enough():
        assert not deadline.is_expired, (folder / "log").read_text()[-3000:]
        time.sleep(0.02)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_70_every_timer_that_was_confirmed_rings_after_kills(tmp_path: Path, kills: int) -> None:
    chance = random.Random(70)
    with LocalServerProcess(tmp_path, "--speech", "tone", "--recognition", "none") as server:
        for _ in range(kills):
            daemon = start(server.ws, tmp_path)
            try:
                count = len(lines(tmp_path, "set")) + chance.randint(1, 4)
                await_notes(tmp_path, lambda: len(lines(tmp_path, "set")) >= count)  # noqa: B023
            finally:
                daemon.kill()
                daemon.wait(TIMEOUT_SECONDS)
        (tmp_path / "last").touch()
        daemon = start(server.ws, tmp_path)
        try:
            wanted = {name for _, name in lines(tmp_path, "set")}
            await_notes(tmp_path, lambda: wanted <= {name for _, name, _ in lines(tmp_path, "rang")})
            # All of them may have rung before the last start; a signal before its handlers exist would kill it.
            await_notes(tmp_path, lambda: (tmp_path / "log").read_text().count("daemon ready") > kills)
            daemon.terminate()
            assert daemon.wait(TIMEOUT_SECONDS) == 0
        finally:
            daemon.kill()
            daemon.wait(TIMEOUT_SECONDS)
    late = sorted(float(seconds) for *_, seconds in lines(tmp_path, "rang"))
    median = late[len(late) // 2]
    print(f"{len(wanted)} timers, {kills} kills: rang {median:.3f} s late in the median, at most {late[-1]:.3f}")

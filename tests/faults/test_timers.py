"""Row 70: the daemon is killed while timers are set and ring."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from support.local_server import LocalServerProcess
from support.processes import Stream

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_SECONDS = 60.0


class TimerDaemon:
    """One run of the daemon. What it has printed remains readable after a kill. Not thread-safe."""

    def __init__(self, url: str, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        command = [sys.executable, "-m", "support.timer_daemon", url, str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None and self._process.stderr is not None
        self.output, self.log = Stream(self._process.stdout), Stream(self._process.stderr)

    def lines(self, first: str) -> list[list[str]]:
        lines = [line.split() for line in self.output.data.decode().split("\n")[:-1]]
        return [line for line in lines if line[0] == first]

    def terminate(self) -> int:
        self._process.terminate()
        return self._process.wait(TIMEOUT_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT_SECONDS)
        self.output.whole()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_70_every_timer_that_was_confirmed_rings_after_kills(tmp_path: Path, kills: int) -> None:
    chance = random.Random(70)
    daemons: list[TimerDaemon] = []

    def names(first: str) -> set[str]:
        return {line[1] for daemon in daemons for line in daemon.lines(first)}

    with LocalServerProcess(tmp_path, "--speech", "tone", "--recognition", "none") as server:
        for _ in range(kills):
            daemon = TimerDaemon(server.ws, tmp_path)
            daemons.append(daemon)
            count = chance.randint(1, 4)
            try:
                daemon.output.await_that(lambda: len(daemons[-1].lines("set")) >= count, "timers")  # noqa: B023
            finally:
                daemon.kill()
        (tmp_path / "last").touch()
        daemon = TimerDaemon(server.ws, tmp_path)
        daemons.append(daemon)
        try:
            # All timers may have rung before; a signal before its handlers exist would kill the daemon.
            daemon.log.await_text("daemon ready")
            daemon.output.await_that(lambda: names("set") <= names("rang"), "the rings of all timers")
            assert daemon.terminate() == 0
        finally:
            daemon.kill()
    print(f"{len(names('set'))} timers, {kills} kills")
    for when, meaning in (("ready", "after the end"), ("late", "after READY")):
        late = sorted(float(line[2]) for daemon in daemons for line in daemon.lines("rang") if line[3] == when)
        if late:
            median = statistics.median(late)
            print(f"{len(late)} rang {median:.3f} s {meaning} in the median, at most {late[-1]:.3f}")

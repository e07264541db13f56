"""A D-Bus session with music players, for one test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
SECONDS = 60.0


class Session:
    """A D-Bus session of its own. ``env`` has its address."""

    def __init__(self) -> None:
        self._bus = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
        )
        assert self._bus.stdout is not None
        self.env = {"DBUS_SESSION_BUS_ADDRESS": self._bus.stdout.readline().strip()}
        self._players: list[Player] = []

    def play(self, name: str, status: str = "Playing", volume: float | None = None) -> Player:
        """Start a player, whose remote control works when this returns."""
        player = Player(self.env, name, status, volume)
        self._players.append(player)
        assert player.line() == "ready"
        return player

    def close(self) -> None:
        for player in self._players:
            player.close()
        self._bus.kill()
        self._bus.wait(SECONDS)
        assert self._bus.stdout is not None
        self._bus.stdout.close()


class Player:
    """A player in a process of its own (``support.mpris_player``)."""

    def __init__(self, env: dict[str, str], name: str, status: str, volume: float | None) -> None:
        arguments = [name, status, *([] if volume is None else [str(volume)])]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.mpris_player", *arguments],
            env={**os.environ, **env, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def process(self) -> int:
        return self._process.pid

    def line(self) -> str:
        """Return the next change that the player reports."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def do(self, command: str) -> None:
        """Let the user of the player do something; the change is made when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self.line() == "done"

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

"""``voice-agent top`` in a pseudo-terminal, with the real control socket of a daemon."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.control import ControlHarness

from agent.pipeline.status import Status
from agent.system.threads import Deadline

SECONDS = 30.0
STATUS = Status("first status", "idle", (), 80, mode="announce", listens=False)
_SEQUENCE = re.compile(rb"\x1b(\[[0-9;?]*[a-zA-Z]|\([0-9A-B])")
RESTORED = b"\x1b[?1049l"
"""xterm(1): switches back to the normal screen."""


class Terminal:
    """``voice-agent top`` in a pseudo-terminal of 24 lines with 80 columns."""

    def __init__(self, environ: dict[str, str], lines: int = 24, columns: int = 80) -> None:
        self._controller, terminal = os.openpty()
        self.modes = termios.tcgetattr(terminal)
        self.terminal = terminal
        self.resize(lines, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "top"], stdin=terminal, stdout=terminal, stderr=terminal, env=environ,
            start_new_session=True,
        )  # fmt: skip
        self.output = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def await_text(self, text: str) -> None:
        """Read until the text is on the screen."""
        deadline = Deadline(SECONDS)
        since = len(self.output)
        while text.encode() not in _SEQUENCE.sub(b"", self.output[since:]):
            assert not deadline.is_expired, self.output
            self._read(deadline.remaining() or 0.0)

    def type(self, keys: bytes) -> None:
        os.write(self._controller, keys)

    def end(self) -> int:
        """Wait for the end, which restores the terminal, and return the exit code."""
        deadline = Deadline(SECONDS)
        while self.process.poll() is None:
            assert not deadline.is_expired, self.output
            self._read(0.05)
        self._read(0.0)
        assert RESTORED in self.output
        assert termios.tcgetattr(self.terminal) == self.modes
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._controller)
        os.close(self.terminal)

    def _read(self, seconds: float) -> None:
        if select.select([self._controller], [], [], seconds)[0]:
            self.output += os.read(self._controller, 65536)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    # pytest-xdist sets COLUMNS, which has precedence over the size of the terminal.
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**kept, "RUNTIME_DIRECTORY": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ControlHarness]:
    running = ControlHarness(tmp_path / "control.sock", STATUS)
    yield running
    running.end()


@pytest.fixture
def terminal(daemon: ControlHarness, environ: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal(environ)
    yield opened
    opened.close()


def test_the_screen_follows_the_daemon_until_q(terminal: Terminal, daemon: ControlHarness) -> None:
    terminal.await_text("first status")
    daemon.api.notify(STATUS._replace(summary="second status"))
    terminal.await_text("second")
    terminal.type(b"q")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 0)], ids=lambda value: str(value)
)
def test_a_signal_restores_the_terminal(terminal: Terminal, number: int, code: int) -> None:
    terminal.await_text("first status")
    terminal.process.send_signal(number)
    assert terminal.end() == code


def test_the_screen_fits_after_each_resize(terminal: Terminal) -> None:
    terminal.await_text("first status")
    for lines, columns, text in ((3, 12, "..."), (1, 1, "v"), (30, 120, "version")):
        terminal.resize(lines, columns)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.await_text(text)
    terminal.type(b"q")
    assert terminal.end() == 0


def test_the_screen_waits_for_the_next_daemon(terminal: Terminal, daemon: ControlHarness, tmp_path: Path) -> None:
    terminal.await_text("first status")
    daemon.end()
    terminal.await_text("NO DAEMON")
    second = ControlHarness(tmp_path / "control.sock", STATUS)
    second.api.notify(STATUS._replace(summary="back again"))
    terminal.await_text("back again")
    second.end()
    terminal.type(b"q")
    assert terminal.end() == 0


def run_top(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "top", *arguments],
        env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


def test_once_prints_one_screen_without_a_terminal(daemon: ControlHarness, environ: dict[str, str]) -> None:
    done = run_top(environ, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "status        first status\n" in done.stdout and "\x1b" not in done.stdout


def test_without_a_terminal_the_cure_is_named(daemon: ControlHarness, environ: dict[str, str]) -> None:
    done = run_top(environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert "voice-agent top --once" in done.stderr


def test_without_a_daemon_the_command_ends(environ: dict[str, str]) -> None:
    done = run_top(environ, "--once")
    assert done.returncode == 69
    assert "no daemon can be reached" in done.stderr

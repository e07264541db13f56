"""A daemon process with its notifications to systemd and its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TIMEOUT_SECONDS = 60.0


class Running:
    """A daemon process with its notifications to systemd and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(TIMEOUT_SECONDS)
        self._log = (folder / "log").open("w")
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, text: str) -> None:
        new = self.folder / "config.new"
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.folder / "config.yaml")

    def start(self, text: str) -> str:
        self.write(text)
        environ = {**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"),
                   "VOICE_AGENT_CONTROL__SOCKET": str(self.folder / "control"),
                   "STATE_DIRECTORY": str(self.folder / "state")}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(self.folder / "config.yaml")],
            cwd=Path(__file__).parents[2],
            env=environ,
            stderr=self._log,
        )
        return self.until(lambda words: "READY=1" in words)

    def reload(self, text: str) -> str:
        """Reload, and return the notification at its end."""
        assert self.process is not None
        self.write(text)
        self.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in self.until(lambda words: words.startswith("RELOADING=1"))
        return self.until(lambda words: "READY=1" in words)

    def until(self, met: Callable[[str], bool]) -> str:
        while True:
            words = self.notify.recv(4096).decode()
            if met(words):
                return words

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.until(lambda words: "STOPPING=1" in words)
        return self.process.wait(TIMEOUT_SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT_SECONDS)
        self.notify.close()
        self._log.close()

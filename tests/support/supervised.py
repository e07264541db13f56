"""A daemon in a process of its own, which is started again after each kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_SECONDS = 60.0


class Supervised:
    """The daemon of ``support.noted_daemon``, which is started again after each kill. Thread-safe.

    Args:
        url: The speech server.
        folder: The directory of the daemon; its ``log`` gets the output.
        arguments: More arguments: the broker and the name of the device.
        prefix: Words of the command before the interpreter.
    """

    def __init__(self, url: str, folder: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self._command = [*prefix, sys.executable, "-m", "support.noted_daemon", url, str(folder), *arguments]
        self._log = (folder / "log").open("ab")
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        return subprocess.Popen(self._command, stderr=self._log, stdout=self._log, env=environment)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT_SECONDS)
        self._process = self._start()

    def stop(self) -> int:
        """End it by SIGTERM; return its code."""
        self._process.terminate()
        try:
            return self._process.wait(TIMEOUT_SECONDS)
        finally:
            self._process.kill()
            self._process.wait(TIMEOUT_SECONDS)
            self._log.close()

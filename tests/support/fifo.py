"""A named pipe through which commands report to a test."""

from __future__ import annotations

import os
from pathlib import Path


class Fifo:
    """Keeps the pipe open in both directions: a reader without a writer would see the end of the file."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._lines = os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC), "r", encoding="utf-8")

    def line(self) -> str:
        """Wait for the next line."""
        return self._lines.readline().rstrip("\n")

    def close(self) -> None:
        self._lines.close()

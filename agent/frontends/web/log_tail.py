"""Keeps the last lines of the log in memory, for the page."""

from __future__ import annotations

import logging
from collections import deque

from agent.system.log import RedactingHandler
from agent.system.named_tuple import NamedTuple

MAX_LINES = 300


class LogLine(NamedTuple):
    """One line of the log, with secrets removed. Immutable. ``time`` is in seconds since 1970."""

    time: float
    level: str
    text: str


class LogTail(RedactingHandler):
    """Keeps the last ``MAX_LINES`` lines of the log. Thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)

    def install(self) -> None:
        """Add the handler to the root logger. It removes the same secrets as the existing handlers."""
        root = logging.getLogger()
        for handler in root.handlers:
            if isinstance(handler, RedactingHandler):
                self.secrets = handler.secrets
        root.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.lines(record):
            self._lines.append(LogLine(record.created, record.levelname.lower(), line))

    def tail(self) -> list[LogLine]:
        """Return the lines, oldest first."""
        self.acquire()
        try:
            return list(self._lines)
        finally:
            self.release()

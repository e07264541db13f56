"""Splits the byte stream of a control connection into lines."""

from __future__ import annotations

MAX_LINE_BYTES = 64 * 1024
"""Maximum length of a line, without its line end. ``agent.client`` has the same limit."""


class LineBuffer:
    """Splits a byte stream into lines, with bounded memory. Not thread-safe; owned by the thread that reads the socket.

    The owner must call ``feed`` only while ``size`` does not exceed the limit. Then the buffer holds at most the limit
    and one chunk. ``is_overlong`` becomes true when a line exceeds the limit, and stays true, because the end of that
    line is unknown.

    Args:
        limit: Maximum length of a line in bytes, without its line end.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # number of first bytes that were searched and contain no line end
        self.is_overlong = False

    @property
    def size(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        if not self.is_overlong:
            self._buffer += data

    def next(self) -> bytes | None:
        """Return the next complete line without its end; ``None`` if there is none or it exceeds the limit."""
        end = -1 if self.is_overlong else self._buffer.find(b"\n", self._searched)
        if (len(self._buffer) if end < 0 else end) > self._limit:
            self.is_overlong = True
            self._buffer.clear()
        if self.is_overlong:
            return None
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

"""Lines out of a stream of bytes, and no more memory than one of them needs."""

from __future__ import annotations

LONGEST_LINE = 64 * 1024
"""Bytes, without the line end."""


class Lines:
    """``feed`` what came, then take lines with ``next`` until it gives ``None``.

    ``too_long`` is true once a line has grown beyond the limit; it stays so, for nobody knows where such a line ends.
    Whoever feeds no more while ``held`` is above the limit never holds more than the limit and one piece.
    """

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._held = bytearray()
        self._looked = 0
        self.too_long = False

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> None:
        if not self.too_long:
            self._held += data

    def next(self) -> bytes | None:
        """The next whole line, without its end; ``None`` where there is none, or where it is too long."""
        end = -1 if self.too_long else self._held.find(b"\n", self._looked)
        if (len(self._held) if end < 0 else end) > self._limit:
            self.too_long = True
            self._held.clear()
        if self.too_long:
            return None
        if end < 0:
            self._looked = len(self._held)
            return None
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        self._looked = 0
        return line

"""Parses server-sent events (WHATWG HTML, 9.2.6 "Interpreting an event stream")."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from agent.system.named_tuple import NamedTuple

MAX_LINE_CHARACTERS = 1 << 18


class ServerSentEvent(NamedTuple):
    """One event of the stream. Immutable. ``name`` is the ``event`` field, by default ``message``."""

    name: str
    data: str


class LineTooLongError(Exception):
    """A line of the stream is longer than ``MAX_LINE_CHARACTERS``."""


class EventStreamParser:
    """Bytes in, events out. Not thread-safe; owned by the thread that reads the response.

    Lines end with CR, LF or CRLF; a byte order mark at the start is dropped; several ``data`` lines are joined by LF;
    comments and unknown fields are ignored. Unlike in the specification, the last event of the stream does not need an
    empty line after it, because some servers omit that line.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._pieces: list[str] = []  # of the incomplete line
        self._length = 0
        self._ends_with_cr = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes, *, final: bool = False) -> Iterator[ServerSentEvent]:
        """Yield the events that ``chunk`` completes, with ``final`` also the last event.

        Raises:
            LineTooLongError: A line is longer than ``MAX_LINE_CHARACTERS``.
        """
        text = self._decoder.decode(chunk, final)
        if self._ends_with_cr and text.startswith("\n"):
            text = text[1:]
        if text:
            self._ends_with_cr = text.endswith("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            line = "".join((*self._pieces, line))
            self._pieces, self._length = [], 0
            yield from self._line(line)
        self._pieces.append(rest)
        self._length += len(rest)
        if self._length > MAX_LINE_CHARACTERS:
            raise LineTooLongError
        if final:
            yield from self._line("".join(self._pieces))
            yield from self._line("")

    def _line(self, line: str) -> Iterator[ServerSentEvent]:
        if not line:
            if self._data:
                yield ServerSentEvent(self._name or "message", "\n".join(self._data))
            self._name, self._data = "", []
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value

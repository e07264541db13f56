"""Where captions are written: a stream whose reader may be slow, stand still or leave, and nobody else waits for it."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

from agent.pipeline.events import Event, Stop
from agent.system.text import escape
from agent.system.threads import Deadline, Mailbox, start_thread

log = logging.getLogger(__name__)

MOST_WAITING = 1000
ROUND_SECONDS = 1.0
PIECE_BYTES = 512
"""What the system takes whole once it says that there is room: any pipe has room for more than that."""


class Captions:
    """Writes one line for each caption, from a short thread of its own; ``write`` never blocks.

    A reader that does not read costs the lines that find no room (the log says so); one that has left is a ``Stop``,
    at once, and nothing is written any more. ``close`` waits for what is still to be written, no longer than its
    deadline. A ``stream`` without a descriptor is memory, and is written at once.
    """

    def __init__(self, stream: TextIO, report: Callable[[Event], None]) -> None:
        self._stream, self._report = stream, report
        self._mailbox: Mailbox[bytes | None] = Mailbox()
        self._thread: threading.Thread | None = None
        self._given = self._written = 0  # lines: the one is counted by who writes them, the other by the thread
        self._lost = 0
        self._left = False

    def start(self) -> None:
        try:
            descriptor = self._stream.fileno()
        except OSError:
            return
        # A thread that hangs in a write must not keep the process, and one that could not be started is not joined.
        self._thread = start_thread(threading.Thread(target=self._run, args=[descriptor], name="captions", daemon=True))

    def write(self, text: str) -> None:
        line = f"{escape(text)}\n"
        if self._left:
            return
        if self._thread is None:
            self._stream.write(line)
        elif self._given - self._written < MOST_WAITING:
            self._given += 1
            self._mailbox.put(line.encode(self._stream.encoding or "utf-8", "backslashreplace"))
        else:
            self._lost += 1
            if self._lost == 1:
                log.warning("captions are lost: nobody reads them, and %d lines wait already", MOST_WAITING)

    def close(self, deadline: Deadline) -> None:
        """Safe without ``start``, and twice."""
        if self._thread is None:
            self._mailbox.close()
            return
        self._mailbox.put(None)
        self._thread.join(deadline.remaining())
        if self._lost or self._thread.is_alive():
            log.warning("%d captions were not written", self._lost + self._given - self._written)

    def _run(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        poll.register(descriptor, 0)  # whether the reader has left is told without being asked
        try:
            while True:
                told = dict(poll.poll(ROUND_SECONDS * 1000))
                if told.get(descriptor, 0) & (select.POLLERR | select.POLLNVAL):
                    raise BrokenPipeError
                for line in self._mailbox.take():
                    if line is None:
                        return
                    self._put(descriptor, line)
                    self._written += 1
        except OSError as error:
            self._left = True
            log.debug("captions: %s", error)
            self._report(Stop("the reader of the captions, who left"))
        finally:
            self._mailbox.close()

    @staticmethod
    def _put(descriptor: int, line: bytes) -> None:
        rest = memoryview(line)
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while rest:
            if poll.poll(ROUND_SECONDS * 1000):
                rest = rest[os.write(descriptor, rest[:PIECE_BYTES]) :]

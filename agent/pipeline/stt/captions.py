"""Writes captions to a stream whose reader may be slow, blocked or closed, without blocking the caller."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

from agent.pipeline.events import Event, Stop
from agent.system.log import RepeatedWarning
from agent.system.text import escape
from agent.system.threads import Deadline, Mailbox, start_thread

log = logging.getLogger(__name__)

MAX_PENDING_LINES = 1000
POLL_SECONDS = 1.0

WRITE_BYTES = 512
"""Size of one write. POSIX guarantees that a pipe that polls as writable accepts this much without blocking (pipe(7),
PIPE_BUF)."""


class Captions:
    """Writes one line for each caption from its own thread.

    If the reader does not read, lines beyond ``MAX_PENDING_LINES`` are dropped and logged; so are lines that a full
    disk refuses. If the reader has closed the stream, the captions thread reports a ``Stop`` and writes no more. A
    stream without a descriptor (in memory) is written synchronously. Not thread-safe; owned by the main thread.
    ``report`` is called in the captions thread.

    Args:
        stream: a text stream.
        report: receives the ``Stop``.
    """

    def __init__(self, stream: TextIO, report: Callable[[Event], None]) -> None:
        self._stream, self._report = stream, report
        self._mailbox: Mailbox[bytes | None] = Mailbox()
        self._thread: threading.Thread | None = None
        self._queued_lines = 0  # changed by the caller only
        self._written_lines = 0  # changed by the captions thread only
        self._dropped_lines = 0  # changed by the caller only
        self._refused_lines = 0  # changed by the captions thread only
        self._is_broken = False
        self._failure = RepeatedWarning(log)
        self._is_line_torn = False  # the beginning of a line was written, but not its end

    def start(self) -> None:
        """Start the thread.

        Raises:
            AgentError: the system has no more threads.
        """
        try:
            descriptor = self._stream.fileno()
        except OSError:
            return
        # A daemon thread: a blocked write must not keep the process alive. Assigned after the start, because only a
        # started thread can be joined.
        self._thread = start_thread(threading.Thread(target=self._run, args=[descriptor], name="captions", daemon=True))

    def write(self, text: str) -> None:
        """Queue one caption; never blocks."""
        line = f"{escape(text)}\n"
        if self._is_broken:
            return
        if self._thread is None:
            self._stream.write(line)
        elif self._queued_lines - self._written_lines < MAX_PENDING_LINES:
            self._queued_lines += 1
            self._mailbox.put(line.encode(self._stream.encoding or "utf-8", "backslashreplace"))
        else:
            self._dropped_lines += 1
            if self._dropped_lines == 1:
                log.warning("captions: lines dropped, the reader does not read, pending=%d", MAX_PENDING_LINES)

    def close(self, deadline: Deadline) -> None:
        """Write the queued lines until the deadline; idempotent, also without ``start``."""
        if self._thread is None:
            self._mailbox.close()
            return
        self._mailbox.put(None)
        self._thread.join(deadline.remaining())
        count = self._dropped_lines + self._refused_lines + self._queued_lines - self._written_lines
        if count and not self._is_broken:
            log.warning("captions: lines not written, count=%d", count)

    def _run(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        poll.register(descriptor, 0)  # poll() reports POLLERR (a closed reader) without a request for it
        try:
            while True:
                ready = dict(poll.poll(POLL_SECONDS * 1000))
                if ready.get(descriptor, 0) & (select.POLLERR | select.POLLNVAL):
                    raise BrokenPipeError
                for line in self._mailbox.take():
                    if line is None:
                        return
                    self._write_line(descriptor, line)
                    self._written_lines += 1
        except BrokenPipeError:
            self._is_broken = True
            self._report(Stop("the reader of the captions, which closed the stream"))
        finally:
            self._mailbox.close()

    def _write_line(self, descriptor: int, line: bytes) -> None:
        try:
            self._write(descriptor, b"\n" + line if self._is_line_torn else line)
        except BrokenPipeError:
            raise
        except OSError as error:  # such as a full disk, which may have room later
            self._failure.warn("captions: line not written, error=%s", error.strerror)
            self._refused_lines += 1
        else:
            self._failure.resolved("captions: written again")

    def _write(self, descriptor: int, line: bytes) -> None:
        rest = memoryview(line)
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while rest:
            if poll.poll(POLL_SECONDS * 1000):
                rest = rest[os.write(descriptor, rest[:WRITE_BYTES]) :]
                self._is_line_torn = bool(rest)

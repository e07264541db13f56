"""The connection of one client of the control socket, with its buffers, timeouts and rate limit."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from agent.frontends.api.caller import Caller
from agent.frontends.api.errors import TOO_MUCH, failure
from agent.frontends.api.json_rpc import INVALID_REQUEST, RpcError
from agent.frontends.control.line_buffer import LineBuffer
from agent.system.named_tuple import NamedTuple
from agent.system.rate_limiter import RateLimiter

READ_BYTES = 64 * 1024
MAX_UNSENT_BYTES = 64 * 1024
"""Size of the unsent lines of a client above which further requests of this client wait."""
MAX_BACKLOG_BYTES = 1024 * 1024
"""Maximum size of the unsent lines of a client; above it the server closes the connection."""
MAX_EVENT_BYTES = 16 * 1024
"""Maximum size of the events that are sent at once; further events stay in the subscription."""
MAX_UNANSWERED = 8
"""Maximum number of requests of one client that are executed at the same time; further requests wait."""


class PeerTiming(NamedTuple):
    """The timeouts and the rate limit for one client. Immutable.

    Args:
        idle_seconds: Maximum time without a request, if the client waits for no response and no notification.
        line_seconds: Maximum time from the first to the last byte of a line, and maximum time in which the client reads
            nothing of a response. Unread events have no timeout.
        lines_per_second: Maximum rate at which the lines of the client are processed.
    """

    idle_seconds: float = 30.0
    line_seconds: float = 10.0
    lines_per_second: float = 200.0


class Peer:
    """A connected client. Not thread-safe; owned by the control thread. No method blocks or raises.

    Attributes:
        caller: The client as a caller of the API; ``None`` until the server accepts the client.
        unanswered: Number of requests that are executed and not answered yet.
        is_closed: The connection is closed, or the server must close it.
        has_ended_input: The client sends no more data. It may still read, and its requests are still executed.
        is_throttled: The client has sent lines faster than ``lines_per_second``.
    """

    def __init__(self, connected: socket.socket, timing: PeerTiming) -> None:
        self.socket = connected
        self.caller: Caller | None = None
        self.unanswered = 0
        self.is_closed = self.has_ended_input = self.is_throttled = False
        self._timing = timing
        self._lines = LineBuffer()
        self._unsent = bytearray()
        self._rate = RateLimiter(timing.lines_per_second)
        self._cannot_send = False
        self._owes_response = False  # the unsent data contains a response or an end, and not only events
        self._line_at = self._sent_at = time.monotonic()  # time of the last line; time of the last byte sent
        # Time of the last response. The client may have waited for it during a whole utterance, and was not idle.
        self._response_at = self._line_at
        self._partial_line_at: float | None = None  # start of the incomplete line

    def poll_events(self) -> int:
        """Return the poll events to wait for; 0 while nothing is unsent and no more data is read from the client."""
        reads = not self.has_ended_input and not self.is_paused and not self._lines.is_overlong
        return (select.POLLIN if reads else 0) | (select.POLLOUT if self._unsent else 0)

    def read(self) -> None:
        """Read the available bytes, unless the client is paused."""
        if self.has_ended_input or self.is_closed or self.is_paused:
            return
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.is_closed = True
            return
        self.has_ended_input = not data
        self._lines.feed(data)

    def next_line(self) -> bytes | None:
        """Return the next line; ``None`` if no line is complete or the client is paused."""
        if self.is_closed or self._is_busy:
            return None
        self.is_throttled = self._lines.size > 0 and not self._rate.take()
        if self.is_throttled:
            return None
        line = self._lines.next()
        now = time.monotonic()
        if line is not None:
            self._line_at, self._partial_line_at = now, None
        elif not self._lines.size:
            self._partial_line_at = None
        elif self._partial_line_at is None:
            self._partial_line_at = now
        return line

    @property
    def is_paused(self) -> bool:
        """Whether the server reads no more from the client for now.

        The client sends too fast, does not read, or has ``MAX_UNANSWERED`` requests in execution.
        """
        return self.is_throttled or self._is_busy

    @property
    def _is_busy(self) -> bool:
        return self.unanswered >= MAX_UNANSWERED or len(self._unsent) > MAX_UNSENT_BYTES

    @property
    def has_finished(self) -> bool:
        """Whether the client sends no more, and nothing is left to send to it."""
        if not self.has_ended_input or self.is_paused:
            return False
        connection = None if self.caller is None else self.caller.connection
        waits = self.unanswered > 0 or (connection is not None and connection.is_waiting)
        return self._cannot_send or not (waits or self._unsent)

    def send_events(self) -> None:
        """Send the queued events of the subscription, if all earlier lines have been sent."""
        connection = None if self.caller is None else self.caller.connection
        if connection is None or connection.subscription is None or not connection.subscription.has_events:
            return
        while not self._unsent and not self.is_closed and not self._cannot_send:
            events = connection.subscription.take(MAX_EVENT_BYTES)
            if not events:
                return
            self._send(b"\n".join(events))

    def send(self, line: bytes) -> None:
        """Queue a response or a notification, without a line end, and write as much as the socket accepts."""
        if self.is_closed or self._cannot_send:
            return
        # The idle time starts with the response, because the client may have waited for it during an utterance.
        self._response_at = time.monotonic()
        if not self._owes_response:
            self._owes_response, self._sent_at = True, self._response_at
        self._send(line)

    def _send(self, line: bytes) -> None:
        self._unsent += line + b"\n"
        if len(self._unsent) > MAX_BACKLOG_BYTES:
            self.is_closed = True
        self.write()

    def write(self) -> None:
        """Write as much of the unsent data as the socket accepts."""
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.hang_up()
                return
            del self._unsent[:sent]
            self._sent_at = time.monotonic()
        self._owes_response = False

    def hang_up(self) -> None:
        """Drop the unsent data and send no more, because the client no longer reads.

        The requests that the client has sent are still executed.
        """
        self._cannot_send = True
        self._unsent.clear()
        self._owes_response = False

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent) and not self.is_closed

    @property
    def owes_response(self) -> bool:
        """Whether the unsent data contains a response or an end, and not only events."""
        return self.has_unsent and self._owes_response

    @property
    def violation(self) -> RpcError | None:
        """The error for a limit that the client has exceeded; ``None`` if it has exceeded none."""
        if self._lines.is_overlong:
            return RpcError(INVALID_REQUEST, "a line is at most 64 KiB long")
        remaining = self._remaining_seconds()
        if remaining is None or remaining > 0:
            return None
        return failure(TOO_MUCH, "the connection is closed: the next request or the next read took too long")

    def timeout(self) -> float | None:
        """Return the seconds until the next timeout, or until a throttled client may continue; ``None`` without one."""
        waits = (self._remaining_seconds(), self._rate.wait_seconds() if self.is_throttled else None)
        return min((wait for wait in waits if wait is not None), default=None)

    def close(self) -> None:
        self.is_closed = True
        with contextlib.suppress(OSError):
            self.socket.close()

    def _remaining_seconds(self) -> float | None:
        timing = self._timing
        ends: list[float] = []
        if self._owes_response:
            ends.append(self._sent_at + timing.line_seconds)
        if self._partial_line_at is not None and not self.is_paused:
            ends.append(self._partial_line_at + timing.line_seconds)
        connection = None if self.caller is None else self.caller.connection
        is_waiting = connection is not None and connection.is_waiting
        if not is_waiting and not self.unanswered and not self.is_throttled:
            ends.append(max(self._line_at, self._response_at) + timing.idle_seconds)
        return min(ends) - time.monotonic() if ends else None

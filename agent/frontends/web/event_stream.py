"""Sends the events of the daemon to one client as server-sent events (HTML Living Standard, server-sent events)."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto

from agent.frontends.api.json_rpc import encode_notification
from agent.frontends.api.subscription import Subscription
from agent.frontends.web.connection import HttpConnection
from agent.system.threads import Mailbox

LEVEL = "level"
LEVEL_SECONDS = 0.2
RETRY_MILLISECONDS = 2000
"""Time that a browser waits before it reconnects."""

Levels = Callable[[], Mapping[str, float]]


class _Signal(Enum):
    WAKE = auto()
    END = auto()


class EventStream:
    """Sends events to one client until it disconnects.

    ``wake`` and ``end`` are thread-safe. Everything else is owned by the thread of the connection, which also must call
    ``close``.

    Args:
        connection: The connection. Its request has been read.
        levels: Returns the level of each sound device in dBFS; ``None`` if the client has not requested levels. It is
            called every ``LEVEL_SECONDS`` while the stream is open.
    """

    def __init__(self, connection: HttpConnection, levels: Levels | None) -> None:
        self._connection, self._levels = connection, levels
        self._mailbox: Mailbox[_Signal] = Mailbox()

    def wake(self) -> None:
        """Make the thread of the connection send the queued events. Never blocks."""
        self._mailbox.put(_Signal.WAKE)

    def end(self) -> None:
        """Make ``run`` return. Never blocks."""
        self._mailbox.put(_Signal.END)

    def run(self, subscription: Subscription) -> None:
        """Send events until the client disconnects or ``end`` is called.

        Raises:
            OSError: The connection is lost, or the client does not read.
        """
        connection = self._connection
        connection.begin(200, "text/event-stream", {"X-Accel-Buffering": "no"})
        self._send(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        poll.register(connection.connection, select.POLLRDHUP)
        last_levels: Mapping[str, float] = {}
        sent_at, levels_at = time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            ping = sent_at + connection.timing.ping_seconds - now
            wait = ping if self._levels is None else min(ping, levels_at + LEVEL_SECONDS - now)
            ready = dict(poll.poll(max(0.0, wait) * 1000))
            if connection.connection.fileno() in ready or _Signal.END in self._mailbox.take():
                return
            events = subscription.take()
            if self._levels is not None and (now := time.monotonic()) >= levels_at + LEVEL_SECONDS:
                levels_at = now
                if (levels := self._levels()) != last_levels:
                    last_levels = levels
                    events.append(encode_notification("event", {"event": LEVEL, **levels}))
            if events:
                self._send(b"".join(b"data: %b\n\n" % event for event in events))
            elif ping <= 0.0:
                self._send(b": ping\n\n")
            else:
                continue
            if subscription.has_events:
                self.wake()
            sent_at = time.monotonic()

    def close(self) -> None:
        """Release the descriptor of the mailbox, after ``run``."""
        self._mailbox.close()

    def _send(self, data: bytes) -> None:
        self._connection.wfile.write(data)

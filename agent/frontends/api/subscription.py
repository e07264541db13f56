"""A bounded queue of the events for one subscriber."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from agent.frontends.api.json_rpc import encode_notification

MAX_EVENTS = 500
MAX_BYTES = 64 * 1024
"""Maximum size of the queued events. A single larger event is kept."""


class Subscription:
    """The queued events of one subscriber. Thread-safe: the main thread adds events, one other thread takes them.

    When the queue is full, the oldest events are dropped. The next ``take`` then begins with an event ``lost`` that
    reports their number.

    Args:
        names: The names of the events that the subscriber receives.
        has_texts: Returns whether the events contain texts.
        wake: Called when an event is added to the empty queue. It must not block.
    """

    def __init__(self, names: frozenset[str], has_texts: Callable[[], bool], wake: Callable[[], None]) -> None:
        self.names, self.has_texts = names, has_texts
        self._wake = wake
        self._lock = threading.Lock()
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._is_closed = False

    def put(self, event: bytes) -> None:
        """Add an encoded event, without a line end. Called by the main thread; never blocks."""
        with self._lock:
            if self._is_closed:
                return
            was_empty = not self._events
            self._events.append(event)
            self._bytes += len(event)
            while len(self._events) > MAX_EVENTS or (self._bytes > MAX_BYTES and len(self._events) > 1):
                self._bytes -= len(self._events.popleft())
                self._lost += 1
        if was_empty:
            self._wake()

    def take(self, max_bytes: int = MAX_BYTES) -> list[bytes]:
        """Remove and return the oldest events; an empty list if there are none.

        Args:
            max_bytes: Maximum size of the returned events. A single larger event is returned alone. The event ``lost``
                is not counted.
        """
        taken: list[bytes] = []
        with self._lock:
            size = 0
            if self._lost and self._events:
                taken.append(encode_notification("event", {"event": "lost", "lost": self._lost}))
                self._lost = 0
            while self._events and (size == 0 or size + len(self._events[0]) <= max_bytes):
                event = self._events.popleft()
                self._bytes -= len(event)
                size += len(event)
                taken.append(event)
        return taken

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def close(self) -> None:
        """Drop the queued and all further events. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._events.clear()
            self._bytes = 0

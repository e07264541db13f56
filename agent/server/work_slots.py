"""Limits the number of threads that work at the same time and lets the other threads wait in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class WorkSlots:
    """A semaphore as a context manager that admits waiting threads in the order of arrival, urgent threads first.

    A semaphore of the standard library keeps no order: a thread that releases it and acquires it again overtakes the
    waiting threads. Thread-safe.

    Args:
        count: Number of threads that work at the same time.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._urgent: deque[threading.Lock] = deque()
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """Number of threads that wait for their turn."""
        return len(self._urgent) + len(self._waiting)

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Enter ahead of all waiting threads that are not urgent."""
        self._enter(is_urgent=True)
        try:
            yield
        finally:
            self.__exit__()

    def __enter__(self) -> None:
        self._enter(is_urgent=False)

    def _enter(self, *, is_urgent: bool) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            (self._urgent if is_urgent else self._waiting).append(turn)
        turn.acquire()  # __exit__() in another thread releases this lock and passes on that thread's slot

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if waiting := self._urgent or self._waiting:
                waiting.popleft().release()
            else:
                self._free += 1

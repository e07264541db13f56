"""Limits work to the number of cores, and gives each waiting thread its turn."""

from __future__ import annotations

import threading
from collections import deque


class WorkSlots:
    """A context manager that at most ``count`` threads have entered; the others enter in the order of arrival.

    A semaphore of the standard library has no order: a thread that leaves it and enters it again overtakes those that
    wait. Thread-safe.

    Args:
        count: Number of threads that work at the same time.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """Number of threads that wait for their turn."""
        return len(self._waiting)

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # __exit__ of another thread releases it, and passes its slot on

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

"""Time measurements that tolerate a busy machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TRIES = 20


def quickest(measure: Callable[[], float], enough: float) -> float:
    """Repeat a measurement and return the smallest result, which is the least affected by other load.

    It stops early once a result is below ``enough``.
    """
    least = measure()
    for _ in range(TRIES - 1):
        if least < enough:
            break
        least = min(least, measure())
    return least


class Metronome(threading.Thread):
    """Thread that records in ``worst_seconds`` its longest scheduling delay. The owner may reset it to 0."""

    def __init__(self, period_seconds: float = 0.02) -> None:
        super().__init__(name="metronome")
        self.worst_seconds = 0.0
        self._period_seconds = period_seconds
        self._over = threading.Event()

    def __enter__(self) -> Metronome:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        due = time.monotonic() + self._period_seconds
        while not self._over.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self.worst_seconds = max(self.worst_seconds, now - due)
            due = now + self._period_seconds

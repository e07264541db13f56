"""How long things take, on a machine that has other things to do as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TRIES = 20


def quickest(measure: Callable[[], float], enough: float) -> float:
    """The least of what ``measure`` gives: what is due to the thing itself, whatever else kept the machine busy. It is
    not measured again once it was less than ``enough``."""
    least = measure()
    for _ in range(TRIES - 1):
        if least < enough:
            break
        least = min(least, measure())
    return least


class Metronome(threading.Thread):
    """``worst_seconds``: by how much a thread that wanted to run was late, at worst, since it was set to 0."""

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

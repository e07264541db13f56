"""Clocks, waits and time measurements that tolerate a busy machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

MAX_TRIES = 20
TIMEOUT_SECONDS = 60.0

T = TypeVar("T")


class Clock:
    """A clock that a test moves; ``now`` is its time in seconds."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def poll_until(
    is_met: Callable[[], object],
    interval_seconds: float = 0.01,
    reason: Callable[[], str] = lambda: "the condition was not met",
) -> None:
    """Wait for a condition that nothing reports. Fails with ``reason`` if it is not met within ``TIMEOUT_SECONDS``."""
    ends_at, pause = time.monotonic() + TIMEOUT_SECONDS, threading.Event()
    while not is_met():
        assert time.monotonic() < ends_at, reason()
        pause.wait(interval_seconds)


def fastest(measure: Callable[[], float], sufficient: float) -> float:
    """Return the smallest result of several calls of ``measure``, without the delays of a busy machine.

    A result below ``sufficient`` ends the measurement.
    """
    least = measure()
    for _ in range(MAX_TRIES - 1):
        if least < sufficient:
            break
        least = min(least, measure())
    return least


def undisturbed(attempt: Callable[[], T], is_disturbed: Callable[[T], object]) -> T:
    """Return the first of several results that a busy machine did not disturb; the last one if all are disturbed."""
    for _ in range(MAX_TRIES - 1):
        result = attempt()
        if not is_disturbed(result):
            return result
    return attempt()


class DelayMonitor(threading.Thread):
    """Measures how late the machine runs a thread. ``worst_seconds``: the largest delay since it was set to 0."""

    def __init__(self, period_seconds: float = 0.02) -> None:
        super().__init__(name="delay monitor")
        self.worst_seconds = 0.0
        self._period_seconds = period_seconds
        self._stopped = threading.Event()

    def __enter__(self) -> DelayMonitor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        due = time.monotonic() + self._period_seconds
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self.worst_seconds = max(self.worst_seconds, now - due)
            due = now + self._period_seconds

"""Owns the workers: starts them in order, watches their heartbeats, and ends them by end-of-stream, then by force."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.system.threads import Deadline, Worker

log = logging.getLogger(__name__)


UNASKED_SECONDS = 1.5
"""Who asks goes round twice a second. A longer pause means that the whole process stood still, not one worker of it. It
is shorter than the shortest patience, or else one that stood still for a moment longer than that would be restarted."""

GRACE_SECONDS = 0.3
"""What was cut short ends by itself in less; aborted at once, a speaker could not say any more what had been heard."""


@dataclass
class _Pulse:
    heartbeats: int
    moved_at: float
    stall_timeout: float = 0.0  # the most there was since it moved: a slow call may end before its next round does


class Supervisor:
    """Workers in pipeline order, the first being the one that the stream enters by.

    ``start()`` starts the last first, so that nobody writes before somebody reads. ``stuck()`` names the workers whose
    counter has not moved within the longest patience they had meanwhile. ``stop(deadline, tend)`` ends the input of
    each and joins them in pipeline order, calling ``tend`` meanwhile so that what they still report is dealt with; who
    has not ended within the deadline's first part is cut and, a moment later, aborted. It returns the names of those
    that could not be ended at all.
    """

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._pulses: dict[str, _Pulse] = {}
        self._asked_at = time.monotonic()

    def start(self, held: threading.Event | None = None) -> None:
        """With ``held`` the threads are up when this returns, and begin their work once that is set."""
        for worker in reversed(self.workers):
            worker.start(held)
            self._pulses[worker.name] = _Pulse(worker.heartbeats, time.monotonic())
        self._asked_at = time.monotonic()

    def stuck(self) -> list[str]:
        """To be asked at least every ``UNASKED_SECONDS``: time in which nobody asked counts for no worker, because the
        process was stopped then, or the machine slept."""
        now = time.monotonic()
        missed = now - self._asked_at
        self._asked_at = now
        if missed > UNASKED_SECONDS:
            for pulse in self._pulses.values():
                pulse.moved_at += missed
        names = []
        for worker in self.workers:
            pulse = self._pulses[worker.name]
            if worker.heartbeats != pulse.heartbeats or not worker.is_alive:
                pulse.heartbeats, pulse.moved_at, pulse.stall_timeout = worker.heartbeats, now, worker.stall_timeout
                continue
            pulse.stall_timeout = max(pulse.stall_timeout, worker.stall_timeout)
            if now - pulse.moved_at > pulse.stall_timeout:
                names.append(worker.name)
        return names

    def stop(self, deadline: Deadline, drain: Callable[[], None], cut: Callable[[], None]) -> list[str]:
        """``cut`` is called when the gentle part of the deadline is over, before the stragglers are aborted."""
        remaining = deadline.remaining() or 0.0
        for worker in self.workers:
            worker.stop()
        self._join(Deadline(remaining * 0.6), drain)
        if self._alive():
            log.info("cutting short: %s", ", ".join(self._alive()))
            cut()
            self._join(deadline.within(min(GRACE_SECONDS, remaining * 0.1)), drain)
            for worker in self.workers:
                if worker.is_alive:
                    worker.abort()
        self._join(Deadline(max(0.2, (deadline.remaining() or 0.0) - 0.2)), drain)
        return self._alive()

    def _alive(self) -> list[str]:
        return [worker.name for worker in self.workers if worker.is_alive]

    def _join(self, deadline: Deadline, drain: Callable[[], None]) -> None:
        for worker in self.workers:
            while not worker.join(deadline.within(0.05)) and not deadline.is_expired:
                drain()
        drain()

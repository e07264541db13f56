"""Starts the workers, watches their heartbeats and stops them in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from agent.daemon.shutdown import WorkerBudget
from agent.system.threads import Deadline, Worker

log = logging.getLogger(__name__)

MAX_CHECK_INTERVAL_SECONDS = 1.5
"""Longest interval between two checks that counts against the workers.

The main thread checks twice a second. After a longer interval the whole process was stopped (SIGSTOP, suspend), and no
single worker is stuck. This limit must be shorter than the shortest stall timeout; otherwise a pause of the process
could restart the daemon.
"""


def _do_nothing() -> None:
    pass


class _Pulse:
    """The progress of one worker. Not thread-safe; owned by the main thread."""

    def __init__(self, heartbeats: int, changed_at: float) -> None:
        self.heartbeats, self.changed_at = heartbeats, changed_at
        # The longest stall timeout since the last heartbeat. A worker raises its timeout for a slow call, and may lower
        # it again before its next heartbeat.
        self.stall_timeout = 0.0


class Supervisor:
    """Owns the workers, in pipeline order: the first worker is at the start of the stream.

    Not thread-safe; owned by the main thread.
    """

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._pulses: dict[str, _Pulse] = {}
        self._checked_at = time.monotonic()

    def start(self, start_gate: threading.Event | None = None) -> None:
        """Start the workers in reverse order, so that every reader runs before its writer.

        Args:
            start_gate: The threads wait for this event before they start their work. ``start`` does not wait.
        """
        for worker in reversed(self.workers):
            worker.start(start_gate)
            self._pulses[worker.name] = _Pulse(worker.heartbeats, time.monotonic())
        self._checked_at = time.monotonic()

    def check_heartbeats(self) -> list[str]:
        """Return the names of the workers whose last heartbeat is older than their stall timeout.

        Call it at least every ``MAX_CHECK_INTERVAL_SECONDS``. A longer interval does not count against the workers.
        """
        now = time.monotonic()
        interval = now - self._checked_at
        self._checked_at = now
        if interval > MAX_CHECK_INTERVAL_SECONDS:
            for pulse in self._pulses.values():
                pulse.changed_at += interval
        names = []
        for worker in self.workers:
            pulse = self._pulses[worker.name]
            if worker.heartbeats != pulse.heartbeats or not worker.is_alive:
                pulse.heartbeats, pulse.changed_at, pulse.stall_timeout = worker.heartbeats, now, worker.stall_timeout
                continue
            pulse.stall_timeout = max(pulse.stall_timeout, worker.stall_timeout)
            if now - pulse.changed_at > pulse.stall_timeout:
                names.append(worker.name)
        return names

    def stop(
        self,
        deadline: Deadline,
        drain: Callable[[], None] = _do_nothing,
        cancel: Callable[[], None] = _do_nothing,
        budget: WorkerBudget | None = None,
    ) -> list[str]:
        """Stop the workers in pipeline order: let them drain, then cancel the utterance, then abort them.

        Args:
            deadline: Limit of all phases together.
            drain: Handles the events that the ending workers report; called repeatedly.
            cancel: Cancels the current utterance; called after the drain phase, before workers are aborted.
            budget: Durations of the first two phases; by default shares of the time until ``deadline``.

        Returns:
            The names of the workers that still run.
        """
        budget = budget or WorkerBudget.of(deadline.remaining() or 0.0)
        for worker in self.workers:
            worker.stop()
        self._join(Deadline(budget.drain), drain)
        if running := self._running():
            log.info("shutdown: cancelling, workers=%s", ", ".join(running))
            cancel()
            self._join(deadline.within(budget.cancel), drain)
            for worker in self.workers:
                if worker.is_alive:
                    worker.abort()
        self._join(Deadline(budget.abort(deadline.remaining() or 0.0)), drain)
        return self._running()

    def _running(self) -> list[str]:
        return [worker.name for worker in self.workers if worker.is_alive]

    def _join(self, deadline: Deadline, drain: Callable[[], None]) -> None:
        for worker in self.workers:
            while not worker.join(deadline.within(0.05)) and not deadline.is_expired:
                drain()
        drain()

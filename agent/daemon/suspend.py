"""Detects that the process was suspended, by SIGSTOP or by a suspend of the machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from agent.system.threads import Worker

log = logging.getLogger(__name__)

SUSPEND_SECONDS = 10.0
"""Shortest pause that counts as a suspend. Even on a busy machine, some thread runs within this time.

After a shorter pause the threads continue, because the user still expects the rest of the sentence.
"""


def _since_boot() -> float:
    # CLOCK_MONOTONIC excludes the time that the machine sleeps; CLOCK_BOOTTIME includes it (clock_gettime(2)).
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SuspendDetector:
    """Detects that no thread of this process ran for longer than a limit. Thread-safe.

    Every worker calls ``check`` with each heartbeat. A stuck worker does not count as a suspend, because the other
    workers still call ``check``. The first call after a suspend runs ``on_suspend`` before any other ``check`` returns,
    so that no thread continues with data from before the suspend.

    Args:
        on_suspend: Receives the reason as text.
        limit_seconds: The longest pause that does not count as a suspend.
        clock: Returns seconds, including the time that the machine sleeps.
    """

    def __init__(
        self,
        on_suspend: Callable[[str], None],
        limit_seconds: float = SUSPEND_SECONDS,
        clock: Callable[[], float] = _since_boot,
    ) -> None:
        self._on_suspend, self._limit_seconds, self._clock = on_suspend, limit_seconds, clock
        self._lock = threading.Lock()
        self._checked_at: float | None = None
        self._reason: str | None = None

    def watch(self, workers: Iterable[Worker]) -> None:
        """Connect to the heartbeats of workers that have not started yet."""
        for worker in workers:
            worker.on_heartbeat = self.check

    def check(self) -> None:
        """Run ``on_suspend`` if the last call of this method was longer than the limit ago."""
        with self._lock:
            before, self._checked_at = self._checked_at, self._clock()
            pause = 0.0 if before is None else self._checked_at - before
            if pause > self._limit_seconds:
                log.warning("suspend: the process was stopped or the machine suspended, seconds=%.1f", pause)
                self._reason = f"a suspend of {pause:.0f} s"
                self._on_suspend(self._reason)

    def take_reason(self) -> str | None:
        """Call ``check``; return the reason of a suspend since the last call of ``take_reason``, or ``None``."""
        self.check()
        reason, self._reason = self._reason, None
        return reason

"""Whether the whole process has stood still: it was stopped, or the machine slept."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from agent.system.threads import Worker

log = logging.getLogger(__name__)

STANDSTILL_SECONDS = 10.0
"""No machine is so busy that no thread runs for so long, and nobody waits so long for the rest of a sentence. After
less than that all goes on where it was."""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # the monotonic clock stands still while the machine sleeps


class SuspendDetector:
    """Notices when nothing of this process ran for longer than ``limit_seconds``.

    ``look`` is called again and again by all who go round (``watch`` has workers do so at each beat). Where none of
    them came for so long, none ran: one that is stuck or busy does not keep the others from coming. Whoever comes first
    then has ``tell`` called, with words that say by what everything was held up, before any other look returns; so
    nobody goes on with what is from before. ``over`` is for the one who decides: it gives these words, once.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        limit_seconds: float = STANDSTILL_SECONDS,
        clock: Callable[[], float] = _since_boot,
    ) -> None:
        self._tell, self._limit_seconds, self._clock = tell, limit_seconds, clock
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._by: str | None = None

    def watch(self, workers: Iterable[Worker]) -> None:
        """Before they are started."""
        for worker in workers:
            worker.on_heartbeat = self.look

    def look(self) -> None:
        with self._lock:
            before, self._looked_at = self._looked_at, self._clock()
            stood = 0.0 if before is None else self._looked_at - before
            if stood > self._limit_seconds:
                log.warning("nothing ran for %.1f s: the process was stopped, or the machine slept", stood)
                self._by = f"a standstill of {stood:.0f} s"
                self._tell(self._by)

    def over(self) -> str | None:
        self.look()
        by, self._by = self._by, None
        return by

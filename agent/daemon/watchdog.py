"""Pings systemd's watchdog while the workers make progress."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

from agent.daemon.supervisor import Supervisor
from agent.system.stacks import dump_stacks
from agent.system.systemd import SystemdNotifier

log = logging.getLogger(__name__)


class Watchdog:
    """Pings systemd's watchdog (sd_watchdog_enabled(3)) while every worker makes progress.

    Without pings, systemd kills and restarts the daemon. Not thread-safe; owned by the main thread.

    Args:
        systemd: Receives the pings.
        supervisors: The owners of the workers.
        stream: Receives the stacks of all threads, once for each stall; by default stderr, which goes to the journal.
    """

    def __init__(
        self, systemd: SystemdNotifier, supervisors: Sequence[Supervisor], stream: TextIO | None = None
    ) -> None:
        self._systemd, self._supervisors = systemd, supervisors
        self._stream = stream
        self._stuck: list[str] = []

    def check(self) -> list[str]:
        """Return the names of the stuck workers; ping the watchdog if there are none. Call it about twice a second."""
        before, self._stuck = self._stuck, [name for each in self._supervisors for name in each.check_heartbeats()]
        if not self._stuck:
            self._systemd.ping_watchdog()
            if before:
                log.warning("watchdog: making progress again, workers=%s", ", ".join(before))
        elif not before:
            log.error("watchdog: stuck: %s, stacks of all threads and a restart follow", ", ".join(self._stuck))
            dump_stacks(self._stream or sys.stderr)
        return self._stuck

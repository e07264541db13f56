"""What systemd's watchdog sees: the daemon is alive as long as every one of its workers is."""

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
    """Pets systemd's watchdog while the counter of every worker moves within the worker's patience.

    ``look`` is to be called about twice a second. Once something is stuck nothing is petted any more, so that systemd
    ends and restarts the daemon; the names and the stacks of all threads are written to ``stream`` (which ends in the
    journal), once for each time that it comes to this.
    """

    def __init__(
        self, service: SystemdNotifier, supervisors: Sequence[Supervisor], stream: TextIO | None = None
    ) -> None:
        self._service, self._supervisors = service, supervisors
        self._stream = stream
        self._stuck: list[str] = []

    def look(self) -> list[str]:
        """The names of the workers that are stuck; there are none as long as all is well."""
        known, self._stuck = self._stuck, [name for each in self._supervisors for name in each.stuck()]
        if not self._stuck:
            self._service.ping_watchdog()
            if known:
                log.warning("moving again: %s", ", ".join(known))
        elif not known:
            log.error("stuck: %s; the stacks of all threads follow, and a restart", ", ".join(self._stuck))
            dump_stacks(self._stream or sys.stderr)
        return self._stuck

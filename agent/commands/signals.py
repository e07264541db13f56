"""What Ctrl-C and its relatives mean to a command that speaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from agent.events import Event, Stop


class HushSignals:
    """Ctrl-C, SIGTERM and SIGUSR1 are reported as ``Stop``; a second of the first two leaves at once. ``report`` must
    be such as a signal handler may call."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._count = 0
        self._report = report
        self._before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1 and number != signal.SIGUSR1:
            os._exit(128 + number)
        self._report(Stop(signal.Signals(number).name))

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

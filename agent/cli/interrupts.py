"""What Ctrl-C and its relatives mean to a command that works for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable

from agent.pipeline.events import Event, Stop
from agent.system.signals import Signals


def hush_signals(report: Callable[[Event], None]) -> Signals:
    """Ctrl-C, SIGTERM and SIGUSR1 are reported as ``Stop``; a second of the first two leaves at once."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    return Signals(dict.fromkeys(numbers, lambda name: report(Stop(name))))

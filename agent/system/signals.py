"""Signals, told at once by a thread of its own: a signal may reach any thread, and need not wake the one that waits."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping

from agent.errors import AgentError
from agent.system.threads import start_thread

TERMINATION_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})


class Signals:
    """Calls ``rules[number](name)`` for each signal that comes, in the thread ``signals``, until ``restore``.

    A Python handler runs only when the main thread comes round to it, which may wait for ever in a queue or in a C
    call. Here the C handler writes into a pipe that a thread reads, so nothing has to come round. A second one of
    SIGINT and SIGTERM leaves at once. Made, and restored, in the main thread. ``AgentError``: no thread is to be had.
    """

    def __init__(self, rules: Mapping[signal.Signals, Callable[[str], object]]) -> None:
        self._rules = rules
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        try:
            self._thread = start_thread(threading.Thread(target=self._watch, name="signals", daemon=True))
        except AgentError:
            os.close(self._read)
            os.close(self._write)
            raise
        self._before_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # Without a Python handler there is no C handler; what it would do is done by the thread.
        self._before = {number: signal.signal(number, _nothing) for number in rules}

    def restore(self) -> None:
        """Puts back what was before. Safe twice."""
        if self._write < 0:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before_fd)  # last: until then one that comes in between still has a reader
        os.close(self._write)
        self._write = -1
        self._thread.join()
        os.close(self._read)

    def _watch(self) -> None:
        leaving = 0
        while numbers := os.read(self._read, 64):
            for value in numbers:
                with contextlib.suppress(ValueError):
                    number = signal.Signals(value)
                    leaving += number in TERMINATION_SIGNALS
                    if number in TERMINATION_SIGNALS and leaving > 1:
                        os._exit(128 + number)
                    if number in self._rules:
                        self._rules[number](number.name)


def _nothing(number: int, frame: object) -> None:
    """See ``Signals``."""

"""Handles signals in a separate thread, so that they are handled while the main thread blocks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping

from agent.errors import AgentError
from agent.system.threads import start_thread

CANCEL_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The signals that cancel the utterance of a command such as ``say``."""

TERMINATION_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})


class Signals:
    """Calls a handler for each signal until ``restore``; a second SIGINT or SIGTERM ends the process immediately.

    Python runs a signal handler only between bytecodes of the main thread. A main thread that blocks in ``queue.get()``
    or in a C call does not run it (measured: not run after 4 s). A handler that needs a lock which the main thread
    holds causes a deadlock. Here the C-level handler writes the signal number to a pipe (``signal.set_wakeup_fd``), and
    the thread ``signals`` reads the pipe.

    Not thread-safe; created and restored by the main thread. The handlers run in the thread ``signals``.

    Args:
        handlers: For each signal the function to call with the name of the signal.

    Raises:
        AgentError: The system cannot create more threads.
    """

    def __init__(self, handlers: Mapping[signal.Signals, Callable[[str], object]]) -> None:
        self._handlers = handlers
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write_fd, False)
        try:
            self._thread = start_thread(threading.Thread(target=self._watch, name="signals", daemon=True))
        except AgentError:
            os.close(self._read_fd)
            os.close(self._write_fd)
            raise
        self._previous_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        # Python installs the C-level handler only together with a Python handler; the latter does nothing here.
        self._previous = {number: signal.signal(number, _ignore) for number in handlers}

    def restore(self) -> None:
        """Restore the previous handlers. Idempotent."""
        if self._write_fd < 0:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)  # last: a signal that arrives before needs the pipe
        os.close(self._write_fd)
        self._write_fd = -1
        self._thread.join()
        os.close(self._read_fd)

    def _watch(self) -> None:
        terminations = 0
        while numbers := os.read(self._read_fd, 64):
            for value in numbers:
                with contextlib.suppress(ValueError):
                    number = signal.Signals(value)
                    terminations += number in TERMINATION_SIGNALS
                    if number in TERMINATION_SIGNALS and terminations > 1:
                        os._exit(128 + number)
                    if number in self._handlers:
                        self._handlers[number](number.name)


def _ignore(number: int, frame: object) -> None:
    """Python-level handler without effect; see ``Signals``."""

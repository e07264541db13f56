"""Base classes of the frontends whose threads sleep until something changes."""

from __future__ import annotations

import logging
import math
import select
from collections.abc import Callable, Sequence

from agent.frontends.frontend import Frontend, Notification
from agent.pipeline.events import Event
from agent.pipeline.status import Status
from agent.system.text import escape
from agent.system.threads import Mailbox

log = logging.getLogger(__name__)

OFF = "off"
"""The state after the shutdown of the daemon. The frontend processes it and stops."""


class SleepingFrontend(Frontend):
    """A frontend that sleeps until a descriptor is ready, and that logs a problem only once.

    The methods of ``Frontend`` are called by the main thread; everything else is owned by the thread of the frontend.

    Args:
        name: The name of the thread, and the beginning of its log lines.
        report: Receives the events of the frontend.
    """

    def __init__(self, name: str, report: Callable[[Event], None]) -> None:
        super().__init__(name, report)
        self._problem: str | None = None  # owned by the thread of the frontend

    def sleep(self, poll: select.poll, seconds: float | None) -> list[tuple[int, int]]:
        """Wait until a descriptor is ready or the timeout expires.

        Args:
            poll: The descriptors.
            seconds: The timeout; ``None``: no timeout.

        Returns:
            The ready descriptors with their events, as ``select.poll.poll``.
        """
        # Without this the watchdog would report a thread that waits for a change as stalled.
        self.stall_timeout = math.inf
        self.heartbeat()
        ready = poll.poll(None if seconds is None else math.ceil(1000 * seconds))
        self.stall_timeout = type(self).stall_timeout
        self.heartbeat()
        return ready

    def log_problem(self, problem: str | None) -> None:
        """Log the first problem, and later that the frontend works again.

        Args:
            problem: Why the frontend cannot be used now; ``None`` if it works.
        """
        if problem is not None and self._problem is None:
            log.warning("%s: not usable, %s", self.name, escape(problem, 300))
        elif problem is None and self._problem is not None:
            log.info("%s: usable again", self.name)
        self._problem = problem


class StateFollower(SleepingFrontend):
    """A frontend whose thread receives each new visible state of the daemon.

    Thread-safe: the main thread calls ``notify`` and the methods of a frontend; everything else is owned by the thread
    of the frontend.

    Args:
        name: The name of the thread, and the beginning of its log lines.
        report: Receives the events of the frontend.
    """

    def __init__(self, name: str, report: Callable[[Event], None]) -> None:
        super().__init__(name, report)
        self.is_aborted = False
        self._changes: Mailbox[str] | None = None
        self._last: str | None = None  # owned by the main thread

    # --- the main thread

    def open(self) -> None:
        self._changes = Mailbox()

    def notify(self, notification: Notification) -> None:
        """Pass the visible state of a status to the thread if it differs from the previous one. Never blocks."""
        if isinstance(notification, Status) and notification.visible_state != self._last and self._changes is not None:
            self._last = notification.visible_state
            self._changes.put(self._last)

    def stop_accepting(self) -> None:
        """Do nothing: the frontend also follows the states of the shutdown."""

    def stop(self) -> None:
        if self._changes is not None:
            self._changes.put(OFF)
            if self.ident is None:
                self._changes.close()

    def abort(self) -> None:
        self.is_aborted = True
        self.stop()

    # --- the thread of the frontend

    def wait(self, seconds: float | None, fds: Sequence[int] = ()) -> str | None:
        """Wait for a new state, for one of ``fds`` to become readable, or for the timeout.

        Returns:
            ``OFF`` if the daemon has ended; otherwise the newest state, or ``None`` if there is no new state.
        """
        assert self._changes is not None
        poll = select.poll()
        for fd in (self._changes.fileno(), *fds):
            poll.register(fd, select.POLLIN)
        self.sleep(poll, seconds)
        states = self._changes.take()
        return OFF if OFF in states else states[-1] if states else None

    def close(self) -> None:
        """Drop all further states and release the descriptor."""
        if self._changes is not None:
            self._changes.close()

"""The light: an LED that shows the state of the device."""

from __future__ import annotations

import logging
import math
import select
from collections.abc import Callable, Mapping, Sequence

from agent.frontends.frontend import Frontend, Notification
from agent.frontends.panel.interfaces import Lamp, PanelError
from agent.frontends.panel.patterns import OFF, Pattern
from agent.pipeline.events import Event
from agent.pipeline.status import Status
from agent.system.text import escape
from agent.system.threads import Backoff, Deadline, Mailbox

log = logging.getLogger(__name__)

RETRY_SECONDS = (4.0, 60.0)
"""The first and the longest ceiling of the delays between attempts to open the pins."""


class Light(Frontend):
    """The base of the lights: passes each new state on to the thread ``light``.

    Thread-safe: the main thread calls ``notify`` and the methods of a frontend; everything else is owned by the light
    thread.

    Args:
        report: Receives the events of the frontend.
    """

    def __init__(self, report: Callable[[Event], None]) -> None:
        super().__init__("light", report)
        self._changes: Mailbox[str] | None = None
        self._shown: str | None = None  # owned by the main thread
        self._is_aborted = False
        self._problem: str | None = None

    # --- the main thread

    def open(self) -> None:
        self._changes = Mailbox()

    def notify(self, notification: Notification) -> None:
        """Show the state of a status. Never blocks."""
        if isinstance(notification, Status) and notification.visible_state != self._shown and self._changes is not None:
            self._shown = notification.visible_state
            self._changes.put(self._shown)

    def stop_accepting(self) -> None:
        """Do nothing: the light shows the states of the shutdown."""

    def stop(self) -> None:
        if self._changes is not None:
            self._changes.put(OFF)
            if self.ident is None:
                self._changes.close()

    def abort(self) -> None:
        self._is_aborted = True
        self.stop()

    # --- the light thread

    def wait(self, seconds: float | None, fds: Sequence[int] = ()) -> str | None:
        """Wait for a new state, for a descriptor or for a time; return the newest state if there is one."""
        assert self._changes is not None
        poll = select.poll()
        for fd in (self._changes.fileno(), *fds):
            poll.register(fd, select.POLLIN)
        # A thread that waits for a change makes no progress, and is not stuck.
        self.stall_timeout = math.inf
        self.heartbeat()
        poll.poll(None if seconds is None else math.ceil(1000 * seconds))
        self.stall_timeout = type(self).stall_timeout
        self.heartbeat()
        states = self._changes.take()
        return OFF if OFF in states else states[-1] if states else None

    def close(self) -> None:
        """Accept no more states."""
        if self._changes is not None:
            self._changes.close()

    def log_problem(self, problem: str | None) -> None:
        """Log a problem once, until the light works again."""
        if problem is not None and self._problem is None:
            log.warning("light: not usable, %s", escape(problem, 300))
        elif problem is None and self._problem is not None:
            log.info("light: usable again")
        self._problem = problem


class PinLight(Light):
    """Shows each state as a pattern of an LED that is wired to pins.

    Thread-safe like ``Light``. A state without a blinking pattern needs no wakeup.

    Args:
        open_lamp: Opens the LED, in the light thread. Raises ``PanelError``.
        patterns: The pattern of each state.
        report: Receives the events of the frontend.
        backoff: The delays between attempts to open the LED.
    """

    def __init__(
        self,
        open_lamp: Callable[[], Lamp],
        patterns: Mapping[str, Pattern],
        report: Callable[[Event], None],
        *,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(report)
        self._open_lamp, self._patterns = open_lamp, patterns
        self._backoff = backoff or Backoff(*RETRY_SECONDS)

    def run(self) -> None:
        lamp: Lamp | None = None
        state, retry = "idle", Deadline(0.0)
        try:
            while state != OFF and not self._is_aborted:
                try:
                    if lamp is None and retry.is_expired:
                        lamp = self._open_lamp()
                        self.log_problem(None)
                    if lamp is not None:
                        state = self._show(lamp, state)
                        self._backoff.reset()
                        continue
                except PanelError as error:
                    self.log_problem(str(error))
                    if lamp is not None:
                        lamp.close()
                        lamp = None
                    retry = Deadline(self._backoff.next_seconds(at_least_seconds=1.0))
                state = self.wait(retry.remaining()) or state
        finally:
            if lamp is not None:
                lamp.close()
            self.close()

    def _show(self, lamp: Lamp, state: str) -> str:
        """Show a state until there is another one, which is returned."""
        while True:
            for step in self._patterns[state]:
                lamp.set(step.levels)
                if (new := self.wait(step.seconds)) is not None:
                    return new

"""The frontend for a button: a short press listens or stops the speech, a long press mutes or unmutes."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

from agent.frontends.frontend import Notification
from agent.frontends.panel.interfaces import RETRY_FIRST_AND_MAX_SECONDS, PanelError, PressSource
from agent.frontends.panel.press import Press, long_press, short_press
from agent.frontends.state_follower import SleepingFrontend
from agent.pipeline.events import ButtonPressed, Event
from agent.pipeline.status import Status
from agent.system.threads import Backoff, Deadline, Mailbox

log = logging.getLogger(__name__)


class Button(SleepingFrontend):
    """Converts the presses of one button into requests.

    Thread-safe: the main thread calls ``notify`` and the methods of a frontend; everything else is owned by the button
    thread. While the button works and is not pressed, the thread sleeps without a timeout.

    Args:
        make_source: Makes the source of presses. Called by the button thread, because it may import a library.
        long_seconds: Minimum duration of a long press.
        report: Receives the events of the frontend.
        backoff: The delays between attempts to open the button.
    """

    def __init__(
        self,
        make_source: Callable[[], PressSource],
        long_seconds: float,
        report: Callable[[Event], None],
        *,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__("button", report)
        self._make_source = make_source
        self._press = Press(long_seconds)
        self._backoff = backoff or Backoff(*RETRY_FIRST_AND_MAX_SECONDS)
        self._status = Status("starting", "idle")
        self._is_stopping = False
        self._wake: Mailbox[None] | None = None

    # --- the main thread

    def open(self) -> None:
        self._wake = Mailbox()

    def notify(self, notification: Notification) -> None:
        """Store the newest status, which decides what a press means. Never blocks."""
        if isinstance(notification, Status):
            self._status = notification

    def stop_accepting(self) -> None:
        self.stop()

    def stop(self) -> None:
        self._is_stopping = True
        if self._wake is not None:
            self._wake.put(None)
            if self.ident is None:
                self._wake.close()

    def abort(self) -> None:
        self.stop()

    # --- the button thread

    def run(self) -> None:
        assert self._wake is not None
        source = self._make_source()
        is_open, retry = False, Deadline(0.0)
        try:
            while not self._is_stopping:
                if not is_open and retry.is_expired:
                    try:
                        source.open()
                        is_open = True
                        self._backoff.reset()
                        self.log_problem(source.problem())
                    except PanelError as error:
                        self.log_problem(str(error))
                        retry = Deadline(self._backoff.next_seconds(at_least_seconds=1.0))
                self._wait(source, self._wake.fileno(), Deadline(None) if is_open else retry)
        finally:
            source.close()
            self._wake.close()

    def _wait(self, source: PressSource, wake: int, retry: Deadline) -> None:
        """Wait until the button changes, a press becomes long, or the next attempt to open the button is due."""
        poll = select.poll()
        for fd in (wake, *source.filenos()):
            poll.register(fd, select.POLLIN)
        remaining = self._press.remaining()
        timeout = (retry if remaining is None else retry.within(remaining)).remaining()
        for fd, _ in self.sleep(poll, timeout):
            if fd != wake:
                self._read(source, fd)
        if self._press.take_long():
            self._request("long", long_press(self._status))

    def _read(self, source: PressSource, fd: int) -> None:
        for pressed in source.read(fd):
            if pressed is None:
                self._press.reset()
            elif self._press.change(pressed):
                self._request("short", short_press(self._status))
        self.log_problem(source.problem())

    def _request(self, press: str, events: list[Event]) -> None:
        state = self._status.visible_state
        names = ", ".join(type(event).__name__ for event in events) or "no effect, a long press unmutes"
        log.info("button: %s press, state=%s, request=%s", press, state, names)
        for event in (ButtonPressed(press), *events):
            self.report(event)

"""Shows the state with an LED that is wired to pins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.frontends.panel.interfaces import RETRY_FIRST_AND_MAX_SECONDS, Lamp, PanelError
from agent.frontends.panel.patterns import Pattern
from agent.frontends.state_follower import OFF, StateFollower
from agent.pipeline.events import Event
from agent.system.threads import Backoff, Deadline


class PinLight(StateFollower):
    """Shows each state as a pattern of an LED that is wired to pins.

    Thread-safe like ``StateFollower``. While a pattern does not blink, the thread sleeps without a timeout.

    Args:
        open_lamp: Opens the LED. Called by the light thread. Raises ``PanelError``.
        patterns: The pattern of each visible state.
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
        super().__init__("light", report)
        self._open_lamp, self._patterns = open_lamp, patterns
        self._backoff = backoff or Backoff(*RETRY_FIRST_AND_MAX_SECONDS)

    def run(self) -> None:
        lamp: Lamp | None = None
        state, retry = "idle", Deadline(0.0)
        try:
            while state != OFF and not self.is_aborted:
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
        """Show a state until there is a new state, and return the new state. Raises ``PanelError``."""
        while True:
            for step in self._patterns[state]:
                lamp.set(step.levels)
                if (new := self.wait(step.seconds)) is not None:
                    return new

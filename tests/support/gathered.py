"""What workers report, gathered as it comes; every wait is bounded."""

from __future__ import annotations

import threading
from typing import TypeVar

from agent.pipeline.events import Event

Kind = TypeVar("Kind")
TIMEOUT_SECONDS = 60.0


class Gathered:
    """Stands where the inbox would: call it with an event."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.all.append(event)
            self._changed.notify_all()

    def of(self, *kinds: type[Kind]) -> list[Kind]:
        with self._changed:
            return [event for event in self.all if isinstance(event, kinds)]

    def await_that(self, wanted: Event) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: wanted in self.all, TIMEOUT_SECONDS)
            assert came, f"{wanted} did not come; there was {self.all}"

    def await_first(self, kind: type[Kind], count: int = 1) -> Kind:
        """The ``count``-th of this kind."""
        with self._changed:
            self._changed.wait_for(lambda: sum(isinstance(event, kind) for event in self.all) >= count, TIMEOUT_SECONDS)
            found = [event for event in self.all if isinstance(event, kind)]
            assert len(found) >= count, f"{kind.__name__} did not come {count} times; there was {self.all}"
            return found[count - 1]

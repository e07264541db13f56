"""A collector of the events that workers report; every wait has a timeout."""

from __future__ import annotations

import threading
from typing import TypeVar

from agent.pipeline.events import Event

Kind = TypeVar("Kind")
TIMEOUT_SECONDS = 60.0


class Gathered:
    """Takes the place of the inbox: call it with an event. Thread-safe."""

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

    def await_event(self, expected: Event) -> None:
        with self._changed:
            received = self._changed.wait_for(lambda: expected in self.all, TIMEOUT_SECONDS)
            assert received, f"no event {expected}; received {self.all}"

    def await_first(self, kind: type[Kind], count: int = 1) -> Kind:
        """Return event number `count` (from 1) of this class."""
        with self._changed:
            self._changed.wait_for(lambda: sum(isinstance(event, kind) for event in self.all) >= count, TIMEOUT_SECONDS)
            events = [event for event in self.all if isinstance(event, kind)]
            assert len(events) >= count, f"fewer than {count} events {kind.__name__}; received {self.all}"
            return events[count - 1]

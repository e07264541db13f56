"""How long a lost speaker is waited for by what is to be said."""

from __future__ import annotations

import time

from agent.events import DeviceAway, DeviceBack, DeviceLost, Event
from agent.threads import Deadline

WAITED_SECONDS = 30.0
"""Longer than a card that fell off the bus, or a sound server, needs to come back."""


class Absence:
    """``look`` gives a ``DeviceAway`` when an utterance has waited for the speaker for long enough: since the speaker
    was lost, or since the utterance began, whichever is later (``begin``)."""

    def __init__(self, waited_seconds: float = WAITED_SECONDS) -> None:
        self._waited_seconds = waited_seconds
        self._lost_at: float | None = None
        self._deadline = Deadline(None)

    def note(self, event: Event) -> None:
        match event:
            case DeviceLost("speaker"):
                self._lost_at = time.monotonic()
                self.begin()
            case DeviceBack("speaker"):
                self._lost_at = None

    def begin(self) -> None:
        self._deadline = Deadline(self._waited_seconds)

    def look(self) -> DeviceAway | None:
        if self._lost_at is None or not self._deadline.over:
            return None
        self.begin()
        return DeviceAway("speaker", time.monotonic() - self._lost_at)

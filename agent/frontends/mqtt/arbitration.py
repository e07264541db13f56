"""Decides which device of a room answers a wake word that several have heard."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.system.json_text import parse_json
from agent.system.named_tuple import NamedTuple

WINDOW_SECONDS = 0.15
"""Longest time between the wake words of two devices that belong together, and longest wait for another device."""

MAX_LEVEL = 200
"""Largest magnitude of a level in dBFS that is believed."""


class HeardWord(NamedTuple):
    """A wake word that a device has heard. Immutable. ``at``: monotonic time; ``level`` in dBFS."""

    device: str
    level: float
    at: float


class Arbitration:
    """Compares the wake words of the devices in one room: the device with the highest level answers.

    A device answers at once and stops when it learns of a louder one, so that nothing is delayed. Equal levels are
    decided by the names. Not thread-safe; owned by the MQTT thread.

    Args:
        device: The name of this device.
        clock: Returns the monotonic time in seconds.
        window_seconds: Longest time between two wake words that belong together.
    """

    def __init__(
        self, device: str, clock: Callable[[], float] = time.monotonic, *, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._device, self._clock, self._window_seconds = device, clock, window_seconds
        self._own: HeardWord | None = None
        self._other: HeardWord | None = None

    def wake(self, level: float, at: float) -> str | None:
        """Note that this device has heard a wake word. Returns the device that answers instead of it."""
        self._own = HeardWord(self._device, level, at)
        return self._decide()

    def receive(self, payload: bytes) -> str | None:
        """Take the message of a device. Returns the device that answers instead of this one."""
        fields = parse_json(payload)
        if isinstance(fields, str):
            return None
        device, level = fields.get("device"), fields.get("level")
        if not isinstance(device, str) or isinstance(level, bool) or not isinstance(level, int | float):
            return None
        if device == self._device or abs(level) > MAX_LEVEL:
            return None
        heard = HeardWord(device, level, self._clock())
        if self._other is None or heard.at - self._other.at > self._window_seconds or _is_louder(heard, self._other):
            self._other = heard
        return self._decide()

    def _decide(self) -> str | None:
        own, other = self._own, self._other
        if own is None or other is None or abs(own.at - other.at) > self._window_seconds or not _is_louder(other, own):
            return None
        self._own = None  # decided
        return other.device


def _is_louder(one: HeardWord, other: HeardWord) -> bool:
    return (one.level, one.device) > (other.level, other.device)

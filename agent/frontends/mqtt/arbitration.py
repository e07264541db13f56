"""Decides which device answers a wake word that several devices in a room have heard."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.system.json_text import parse_json
from agent.system.named_tuple import NamedTuple

WINDOW_SECONDS = 0.15
"""Maximum time between the reports of two devices that heard the same spoken wake word."""

MAX_LEVEL = 200
"""Maximum magnitude of a received level in dBFS; a message with a larger one is ignored."""


class HeardWord(NamedTuple):
    """A wake word that a device has heard. Immutable. ``level`` in dBFS; ``at``: monotonic time in seconds."""

    device: str
    level: float
    at: float


class Arbitration:
    """Compares the levels at which the devices in a room heard a wake word: the device with the highest level answers.

    To avoid a delay, every device begins to answer immediately. It stops when it receives the report of a device with a
    higher level. If the levels are equal, the device whose name sorts last answers.

    Not thread-safe; owned by the MQTT thread.

    Args:
        device: The name of this device.
        clock: Returns the monotonic time in seconds.
        window_seconds: Maximum time between two reports of the same spoken wake word.
    """

    def __init__(
        self, device: str, clock: Callable[[], float] = time.monotonic, *, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._device, self._clock, self._window_seconds = device, clock, window_seconds
        self._own: HeardWord | None = None
        self._other: HeardWord | None = None

    def wake(self, level: float, at: float) -> str | None:
        """Process a wake word that this device has heard.

        Args:
            level: The level in dBFS.
            at: The monotonic time in seconds.

        Returns:
            The name of the device that answers instead of this one; ``None`` if this device answers.
        """
        self._own = HeardWord(self._device, level, at)
        return self._decide()

    def receive(self, payload: bytes) -> str | None:
        """Process the report of another device; an invalid message is ignored.

        Returns:
            The name of the device that answers instead of this one; ``None`` if nothing changes.
        """
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
        self._own = None  # further reports must not decide about this wake word again
        return other.device


def _is_louder(one: HeardWord, other: HeardWord) -> bool:
    return (one.level, one.device) > (other.level, other.device)

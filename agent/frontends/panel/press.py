"""Decides what a press of the button means."""

from __future__ import annotations

import time

from agent.pipeline.events import Event, Hush, ListenNow, MicrophoneMute, Mute
from agent.pipeline.status import MUTED, Status

SOURCE = "the button"


class Press:
    """Tells short presses from long ones. Not thread-safe; owned by the button thread.

    A short press counts when the button is released, a long one while it is still held. A device that is unplugged
    while it is pressed releases nothing: call ``reset``.

    Args:
        long_seconds: The shortest long press.
    """

    def __init__(self, long_seconds: float) -> None:
        self._long_seconds = long_seconds
        self._since: float | None = None

    def change(self, pressed: bool) -> bool:
        """Note a press or a release; return whether it ends a short press."""
        if pressed:
            self._since = time.monotonic() if self._since is None else self._since
            return False
        was_pressed = self._since is not None
        self._since = None
        return was_pressed

    def remaining(self) -> float | None:
        """Return the seconds until the press is long; ``None`` if the button is not pressed."""
        return None if self._since is None else max(0.0, self._since + self._long_seconds - time.monotonic())

    def take_long(self) -> bool:
        """Return once for each press whether it is long. Its release then has no effect."""
        is_long = self.remaining() == 0.0
        if is_long:
            self._since = None
        return is_long

    def reset(self) -> None:
        """Forget the press."""
        self._since = None


def short_press(status: Status) -> list[Event]:
    """Return the requests of a short press: listen, or end what the device does.

    While the microphone is muted there is none: a user relies on it.
    """
    match status.visible_state:
        case "listening" | "thinking" | "speaking":
            return [Hush(SOURCE)]
        case state if state == MUTED:
            return []
        case _:
            return [ListenNow(SOURCE)]


def long_press(status: Status) -> list[Event]:
    """Return the requests of a long press: mute or unmute the microphone, or the speaker where the mode only speaks.

    Words that the user has begun to speak are discarded.
    """
    device = status.main_device
    is_muted = device not in status.muted
    events: list[Event] = [MicrophoneMute(is_muted, SOURCE) if device == "microphone" else Mute(is_muted, SOURCE)]
    return [*events, Hush(SOURCE)] if status.visible_state == "listening" else events

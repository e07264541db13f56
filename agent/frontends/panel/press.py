"""Distinguishes short and long presses of the button, and decides what they request."""

from __future__ import annotations

import time

from agent.pipeline.events import Event, Hush, ListenNow, MicrophoneMute, Mute
from agent.pipeline.status import MUTED, Status

SOURCE = "the button"


class Press:
    """Distinguishes short presses from long ones. Not thread-safe; owned by the button thread.

    A short press is detected when the button is released. A long press is detected while the button is still held. If a
    device is unplugged while its button is held, there is no release: the caller must call ``reset``.

    Args:
        long_seconds: Minimum duration of a long press.
    """

    def __init__(self, long_seconds: float) -> None:
        self._long_seconds = long_seconds
        self._since: float | None = None

    def change(self, pressed: bool) -> bool:
        """Process a press (``True``) or a release (``False``). Returns whether it ends a short press."""
        if pressed:
            self._since = time.monotonic() if self._since is None else self._since
            return False
        was_pressed = self._since is not None
        self._since = None
        return was_pressed

    def remaining(self) -> float | None:
        """Return the seconds until the current press is long; ``None`` if there is no press that can become long."""
        return None if self._since is None else max(0.0, self._since + self._long_seconds - time.monotonic())

    def take_long(self) -> bool:
        """Return whether the press has become long, ``True`` only once for each press.

        After ``True`` the release of the button has no effect.
        """
        is_long = self.remaining() == 0.0
        if is_long:
            self._since = None
        return is_long

    def reset(self) -> None:
        """Drop the current press."""
        self._since = None


def short_press(status: Status) -> list[Event]:
    """Return the requests of a short press: start listening, or cancel listening and speaking.

    While the device is muted a short press has no effect, because the user relies on the mute.
    """
    match status.visible_state:
        case "listening" | "thinking" | "speaking":
            return [Hush(SOURCE)]
        case state if state == MUTED:
            return []
        case _:
            return [ListenNow(SOURCE)]


def long_press(status: Status) -> list[Event]:
    """Return the requests of a long press: mute or unmute the microphone, or the speaker if the device only speaks.

    While the device listens, the words that the user has begun to say are discarded.
    """
    device = status.main_device
    is_muted = device not in status.muted
    events: list[Event] = [MicrophoneMute(is_muted, SOURCE) if device == "microphone" else Mute(is_muted, SOURCE)]
    return [*events, Hush(SOURCE)] if status.visible_state == "listening" else events

"""The interfaces that buttons and LEDs implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.errors import AgentError

RETRY_FIRST_AND_MAX_SECONDS = (4.0, 60.0)
"""The first and the highest ceiling of the delays between attempts to open a button or an LED (see ``Backoff``)."""


class PanelError(AgentError):
    """A pin or an input device cannot be used at present."""


class PressSource(Protocol):
    """A button, which reports presses and releases. Not thread-safe; owned by the button thread."""

    def open(self) -> None:
        """Open the button. Raises ``PanelError`` if this fails now; then the caller tries again later."""

    def filenos(self) -> list[int]:
        """Return the descriptors that are readable when the button reports something."""

    def read(self, fd: int) -> list[bool | None]:
        """Read a readable descriptor.

        Returns:
            The changes of the button: ``True``: pressed; ``False``: released; ``None``: the button was unplugged.
        """

    def problem(self) -> str | None:
        """Return why no button is available although ``open`` has succeeded; ``None`` if a button is available."""

    def close(self) -> None:
        """Close the button. Idempotent."""


class Lamp(Protocol):
    """An LED or a color LED. Not thread-safe; owned by the light thread."""

    def set(self, levels: Sequence[int]) -> None:
        """Turn each part of the LED on (1) or off (0). Raises ``PanelError``."""

    def close(self) -> None:
        """Turn the LED off and release its pins. Idempotent."""

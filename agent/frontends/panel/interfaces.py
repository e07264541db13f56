"""The interfaces of a button, a source of presses and releases, and of an LED."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.errors import AgentError

RETRY_FIRST_AND_MAX_SECONDS = (4.0, 60.0)
"""The first and the longest ceiling of the delays between attempts to open a button or an LED."""


class PanelError(AgentError):
    """A pin or an input device cannot be used at present."""


class PressSource(Protocol):
    """A button. Not thread-safe; owned by the button thread."""

    def open(self) -> None:
        """Open the button. Raises ``PanelError``: try again later."""

    def filenos(self) -> list[int]:
        """Return the descriptors that are readable when the button reports something."""

    def read(self, fd: int) -> list[bool | None]:
        """Return what a readable descriptor reports: pressed or released; ``None``: the button was unplugged."""

    def problem(self) -> str | None:
        """Return why the open source has no button; ``None`` if it has one."""

    def close(self) -> None:
        """Close the button. Idempotent."""


class Lamp(Protocol):
    """An LED or a color LED. Not thread-safe; owned by the light thread."""

    def set(self, levels: Sequence[int]) -> None:
        """Light each part of the LED (1) or not (0). Raises ``PanelError``."""

    def close(self) -> None:
        """Turn the LED off and release its pins. Idempotent."""

"""How a device that cannot be opened at the start is judged: waited for, or a mistake of the configuration."""

from __future__ import annotations

from collections.abc import Callable

from agent.errors import DeviceError

Patience = Callable[[DeviceError], bool]
"""Whether to wait for the device; where not, the error ends whoever wanted it. It is asked until the device has been
opened once: from then on every failure may pass."""


def impatient(error: DeviceError) -> bool:
    """A command that somebody waits for fails at once."""
    return False


def patient(error: DeviceError) -> bool:
    """A daemon starts before the cards on USB are found: it waits, says so, and does meanwhile what it can. A card that
    takes no format at all is mended by no waiting."""
    return error.lost or error.unknown

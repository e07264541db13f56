"""The speech services by name; a service is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.services.protocols.codec import TtsService

SERVICES = {
    "neuphonic": "agent.services.protocols.neuphonic",
    "playai": "agent.services.protocols.playai",
    "vachana": "agent.services.protocols.vachana",
    "fish": "agent.services.protocols.fish",
    "wyoming": "agent.services.protocols.wyoming",
    "local": "agent.services.protocols.local",
}
"""The module of each service; it has the constant ``SERVICE``. A new service is one line here."""


def find(name: str) -> TtsService:
    """Return the service called ``name``.

    Raises:
        ConfigError: There is none.
    """
    if name not in SERVICES:
        raise ConfigError(f"there is no speech service {name!r}; the services are {', '.join(SERVICES)}")
    service: TtsService = importlib.import_module(SERVICES[name]).SERVICE
    return service


def find_all() -> Iterator[TtsService]:
    """Yield every service; imports all of them."""
    return map(find, SERVICES)


def served() -> list[TtsService]:
    """Return the services that the local speech server serves; imports all."""
    return [service for service in find_all() if service.server is not None]


def settings_class(name: str) -> Any:
    """Return the class of the section ``synthesis.NAME``."""
    return find(name).settings

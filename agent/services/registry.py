"""Finds speech services by name and imports each one on first use."""

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
"""The module of each service by its name. Each module has the constant ``SERVICE``. A new service is one line here."""


def find(name: str) -> TtsService:
    """Return the service called ``name``.

    Raises:
        ConfigError: No service has this name.
    """
    if name not in SERVICES:
        raise ConfigError(f"there is no speech service {name!r}; the services are {', '.join(SERVICES)}")
    service: TtsService = importlib.import_module(SERVICES[name]).SERVICE
    return service


def find_all() -> Iterator[TtsService]:
    """Yield every service; imports all of them."""
    return map(find, SERVICES)


def served() -> list[TtsService]:
    """Return the services whose protocol the local speech server supports. Imports all services."""
    return [service for service in find_all() if service.server is not None]


def settings_class(name: str) -> Any:
    """Return the settings class of the section ``synthesis.NAME``. Imports the service."""
    return find(name).settings

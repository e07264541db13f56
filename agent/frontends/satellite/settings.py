"""The configuration of the satellite for Home Assistant."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.system.hosts import is_valid_hostname
from agent.system.named_tuple import NamedTuple

NO_PORT = "none"
VOICE_SERVICE = "wyoming"
"""The speech service that plays the audio of Home Assistant."""


@section
class SatelliteSettings(NamedTuple):
    """The device as a Wyoming satellite: Home Assistant recognizes the speech of the user and answers it."""

    port: str | int = key(
        NO_PORT,
        "port on which Home Assistant connects, usually 10700; none: it is off",
        choices=(NO_PORT,),
        low=1,
        high=65535,
    )
    host: str = key("127.0.0.1", "address it listens on; 0.0.0.0 serves the network, without authentication")
    area: str = key("", "area of the device in Home Assistant, such as Kitchen")

    @property
    def is_on(self) -> bool:
        """Whether the device is a satellite."""
        return self.port != NO_PORT

    def check(self) -> Iterator[Finding]:
        """Yield the errors in ``host``."""
        if not self.host.isprintable() or " " in self.host or "/" in self.host or not is_valid_hostname(self.host):
            yield Finding("host", "this is not an address to listen on, expected for example 127.0.0.1", "127.0.0.1")

"""The speech services in the order in which they are tried, also while one order takes the place of another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.services.connection.closing import BackgroundCloser
from agent.services.connection.poll import HasFileno

if TYPE_CHECKING:
    from agent.services.connection.standby import Standby


class ServiceChain:
    """Owned by one thread, like the standbys in it. ``services`` is the order for the next utterance; what an older
    order is still needed for goes on until ``sweep`` is told that nobody uses it any more."""

    def __init__(self, services: list[Standby], farewells: BackgroundCloser) -> None:
        self.services = services
        self._old: list[Standby] = []
        self._farewells = farewells

    def waitables(self) -> list[HasFileno]:
        return [each for standby in self.all() for each in standby.waitables()]

    def timeouts(self) -> list[float | None]:
        return [standby.next_timeout() for standby in self.all()]

    def mind(self) -> None:
        for standby in self.all():
            standby.maintain()

    def replace(self, services: list[Standby]) -> None:
        self._old += self.services
        self.services = services

    def renew(self) -> None:
        for standby in self.all():
            standby.reconnect()

    def sweep(self, used: Iterable[Standby]) -> None:
        """Takes leave of the services that have been replaced and are not ``used``."""
        if not self._old:
            return
        needed = list(used)
        for standby in self._old:
            if standby not in needed:
                self._farewells.close_standby(standby)
        self._old = [standby for standby in self._old if standby in needed]

    def all(self) -> list[Standby]:
        """Those in use and those on their way out: all that have to be closed in the end."""
        return [*self.services, *self._old]

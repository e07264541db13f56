"""Connections on their way out: a polite end takes a round trip, and nobody needs to wait for it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from agent.threads import Deadline

if TYPE_CHECKING:
    from agent.connection import Connection
    from agent.standby import Standby

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""How long a service may take over its part of the goodbye."""


class Farewells:
    """Takes connections over from their owner and ends each in a short-lived thread of its own: the end mark, the
    close, the socket released. ``join`` waits for those under way."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def take(self, connection: Connection) -> None:
        """The caller must not touch the connection any more."""
        if connection.ended:
            connection.abort()
            return
        thread = threading.Thread(target=part, args=(connection, FAREWELL_SECONDS), name=f"{connection.service} end")
        thread.start()
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def retire(self, standby: Standby[Connection]) -> None:
        """Closes a standby that is not needed any more. The caller must not mind it any more."""
        thread = threading.Thread(
            target=standby.close, args=(Deadline(FAREWELL_SECONDS),), name=f"{standby.service} retired"
        )
        thread.start()
        self._threads.append(thread)

    def join(self, deadline: Deadline) -> None:
        for thread in self._threads:
            thread.join(deadline.remaining())


def part(connection: Connection, seconds: float) -> None:
    """Ends a connection in good order within ``seconds``, and says so where its end mark could not be delivered."""
    connection.finish(Deadline(seconds))
    if not connection.end_delivered:
        log.warning("%s: the end mark was not delivered (%s)", connection.service, connection.close_reason)

"""Connections on their way out: a polite end takes a round trip, and nobody needs to wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.protocols.events import Event
from agent.threads import Deadline

if TYPE_CHECKING:
    from agent.connection.connection import Connection

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""How long a service may take over its part of the goodbye."""


class Closable(Protocol):
    """A standby, seen from below."""

    service: str

    def close(self, deadline: Deadline) -> None: ...


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
        self._begin(f"{connection.service} end", lambda: part(connection, FAREWELL_SECONDS), connection.abort)

    def retire(self, standby: Closable) -> None:
        """Closes a standby that is not needed any more. The caller must not mind it any more."""
        self._begin(
            f"{standby.service} retired",
            lambda: standby.close(Deadline(FAREWELL_SECONDS)),
            lambda: standby.close(Deadline(0.0)),
        )

    def _begin(self, name: str, politely: Callable[[], object], at_once: Callable[[], object]) -> None:
        thread = threading.Thread(target=politely, name=name)
        try:
            thread.start()
        except RuntimeError:  # the system gives us no more threads: then without a word
            at_once()
        else:
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def join(self, deadline: Deadline) -> None:
        for thread in self._threads:
            thread.join(deadline.remaining())


def part(connection: Connection, seconds: float) -> list[Event]:
    """Ends a connection in good order within ``seconds``, and says so where its end mark could not be delivered.
    Returns what came meanwhile: the last words of a transcript may come with the goodbye."""
    events = connection.finish(Deadline(seconds))
    if not connection.end_delivered:
        log.warning("%s: the end mark was not delivered (%s)", connection.service, connection.close_reason)
    return events

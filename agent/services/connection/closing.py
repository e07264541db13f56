"""Connections on their way out: a polite end takes a round trip, and nobody needs to wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from agent.services.protocols.codec import Event
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

log = logging.getLogger(__name__)

BACKGROUND_CLOSE_SECONDS = 2.0
"""How long a service may take over its part of the goodbye."""

STAGE_CLOSE_SECONDS, STAGE_ABORT_SECONDS = 1.5, 0.5
"""How long a stage's goodbye to all services may take, at its end and at an end by force."""

RECHECK_SECONDS = 0.1
"""How often a goodbye under way looks whether it is to be cut short."""


class Closable(Protocol):
    """A standby, seen from below."""

    service: str

    def begin_close(self, deadline: Deadline) -> None: ...
    def close(self, deadline: Deadline) -> None: ...


class AdjustableDeadline(Deadline):
    """A deadline that may be brought forward while somebody waits for it: ``hasten`` from any thread, which is seen
    within ``LOOK_SECONDS``. So ``remaining`` is never longer than that: who waits for it goes round until ``over``."""

    __slots__ = ("_others",)

    def __init__(self, seconds: float | None, *others: Deadline) -> None:
        super().__init__(seconds)
        self._others = list(others)  # only appended to, which is safe from any thread

    def expire_by(self, deadline: Deadline) -> None:
        """Over with ``deadline`` at the latest, which may be one that is brought forward itself."""
        if deadline is not self and not any(deadline is other for other in self._others):
            self._others.append(deadline)

    @property
    def is_expired(self) -> bool:
        return super().is_expired or any(other.is_expired for other in self._others)

    def remaining(self) -> float:
        waits = [super().remaining(), *(other.remaining() for other in self._others)]
        return min([RECHECK_SECONDS, *(left for left in waits if left is not None)])

    def within(self, seconds: float) -> Deadline:
        return AdjustableDeadline(seconds, self)


class BackgroundCloser:
    """Takes connections over from their owner and ends each in a short-lived thread of its own: the end mark, the
    close, the socket released. ``join`` waits for those under way. A worker that ends calls ``part_all``."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._limit = AdjustableDeadline(None)  # of all that are under way

    def close_connection(self, connection: Connection) -> None:
        """The caller must not touch the connection any more."""
        if connection.is_closed:
            connection.abort()
            return
        patience = AdjustableDeadline(BACKGROUND_CLOSE_SECONDS, self._limit)
        # Where the system gives us no thread, the end mark is still written once, and nobody is waited for.
        self._begin(f"{connection.service} end", lambda: close(connection, patience), lambda: close(connection, _NOW))

    def close_standby(self, standby: Closable) -> None:
        """Closes a standby that is not needed any more. The caller must not mind it any more."""
        patience = AdjustableDeadline(BACKGROUND_CLOSE_SECONDS, self._limit)
        self._begin(f"{standby.service} retired", lambda: standby.close(patience), lambda: standby.close(_NOW))

    def close_all(self, connection: Connection | None, standbys: Sequence[Closable], deadline: Deadline) -> list[Event]:
        """The end of a stage: its live connection, all its standbys and every goodbye still under way, side by side,
        over with ``deadline`` whatever the peers do (a dial that is under way is given up after ``GIVE_UP_SECONDS``).

        Each connection gets its end mark, once; one that could not be delivered is logged. Returns what the live one
        still said. Where ``deadline`` is a ``Haste``, ``hasten`` from another thread cuts all of it short: a gentle end
        that an ``abort`` overtakes.
        """
        self._limit.expire_by(deadline)
        for standby in standbys:
            standby.begin_close(deadline)
        events = [] if connection is None else close(connection, deadline)
        for standby in standbys:
            standby.close(deadline)
        self.join(deadline)
        return events

    def expire_by(self, deadline: Deadline) -> None:
        """All goodbyes under way are over with ``deadline``; waits for none."""
        self._limit.expire_by(deadline)

    def _begin(self, name: str, politely: Callable[[], object], at_once: Callable[[], object]) -> None:
        thread = threading.Thread(target=politely, name=name)
        try:
            thread.start()
        except RuntimeError:  # the system gives us no more threads
            at_once()
        else:
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def join(self, deadline: Deadline) -> None:
        """Waits for those under way, which are over with ``deadline`` too."""
        self._limit.expire_by(deadline)
        for thread in self._threads:
            while thread.is_alive() and not deadline.is_expired:
                thread.join(deadline.remaining())
            thread.join(2 * RECHECK_SECONDS)  # they look at the deadline no more often


def close(connection: Connection, deadline: Deadline | float) -> list[Event]:
    """Ends a connection in good order within ``deadline``, and says so where its end mark could not be delivered.
    Returns what came meanwhile: the last words of a transcript may come with the goodbye."""
    events = connection.finish(deadline if isinstance(deadline, Deadline) else Deadline(deadline))
    if not connection.is_end_delivered:
        log.warning("%s: the end mark was not delivered (%s)", connection.service, connection.close_reason)
    return events


_NOW = Deadline(0.0)

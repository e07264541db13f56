"""Closes connections in the background: sends the end mark, performs the WebSocket close and closes the socket."""

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

RECHECK_SECONDS = 0.1
"""Interval at which a wait with an adjustable deadline checks whether the deadline was shortened."""


class ClosableStandby(Protocol):
    """The part of ``Standby`` that ``BackgroundCloser`` uses. Not thread-safe; owned by the thread of the stage."""

    service: str

    def begin_close(self, deadline: Deadline) -> None: ...
    def close(self, deadline: Deadline) -> None: ...


class AdjustableDeadline(Deadline):
    """A deadline that another thread can shorten during a wait. Thread-safe.

    ``remaining()`` returns at most ``RECHECK_SECONDS``, so the waiting thread must loop until ``is_expired``.

    Args:
        seconds: Seconds from now, or ``None`` for no limit except ``others``.
        others: This deadline expires no later than any of these.
    """

    __slots__ = ("_others",)

    def __init__(self, seconds: float | None, *others: Deadline) -> None:
        super().__init__(seconds)
        self._others = list(others)  # changed by list.append only, which is atomic: no lock is needed

    def expire_by(self, deadline: Deadline) -> None:
        """Shorten this deadline so that it expires no later than ``deadline``, which may be adjustable itself."""
        if deadline is not self and not any(deadline is other for other in self._others):
            self._others.append(deadline)

    @property
    def is_expired(self) -> bool:
        return super().is_expired or any(other.is_expired for other in self._others)

    def remaining(self) -> float:
        waits = [super().remaining(), *(other.remaining() for other in self._others)]
        return min([RECHECK_SECONDS, *(seconds for seconds in waits if seconds is not None)])

    def within(self, seconds: float) -> Deadline:
        return AdjustableDeadline(seconds, self)


class BackgroundCloser:
    """Takes over connections and closes each one in a separate short-lived thread.

    Not thread-safe; owned by the thread of the stage. Call ``close_all`` or ``join`` at the end.

    Args:
        close_seconds: Limit for closing each connection.
    """

    def __init__(self, close_seconds: float) -> None:
        self._close_seconds = close_seconds
        self._threads: list[threading.Thread] = []
        self._limit = AdjustableDeadline(None)  # applies to all threads

    def close_connection(self, connection: Connection) -> None:
        """Close a connection. The caller must not use it any more."""
        if connection.is_closed:
            connection.abort()
            return
        deadline = AdjustableDeadline(self._close_seconds, self._limit)
        # If no thread can be created, the end mark is written without waiting for the peer.
        self._start(
            f"{connection.service} close",
            lambda: close(connection, deadline),
            lambda: close(connection, _EXPIRED),
        )

    def close_standby(self, standby: ClosableStandby) -> None:
        """Close a standby that is not needed any more. The caller must not use it any more."""
        deadline = AdjustableDeadline(self._close_seconds, self._limit)
        self._start(
            f"{standby.service} close standby", lambda: standby.close(deadline), lambda: standby.close(_EXPIRED)
        )

    def close_all(
        self, connection: Connection | None, standbys: Sequence[ClosableStandby], deadline: Deadline
    ) -> list[Event]:
        """Close all connections of a stage in parallel, within the deadline even if a peer does not respond.

        The end mark is sent exactly once on each connection; an end mark that was not delivered is logged.

        Args:
            connection: The connection in use; ``None`` if there is none.
            standbys: All standbys of the stage. They stop dialing; see ``Standby.close``.
            deadline: Limit for all connections together. With an ``AdjustableDeadline``, ``abort`` can shorten a
                ``stop`` in progress.

        Returns:
            The last events of ``connection``.
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
        """Limit all threads, also later ones, to ``deadline``, without waiting."""
        self._limit.expire_by(deadline)

    def join(self, deadline: Deadline) -> None:
        """Limit all threads to ``deadline`` and wait for them."""
        self._limit.expire_by(deadline)
        for thread in self._threads:
            while thread.is_alive() and not deadline.is_expired:
                thread.join(deadline.remaining())
            thread.join(2 * RECHECK_SECONDS)  # a thread checks its limit only at this interval

    def _start(self, name: str, in_thread: Callable[[], object], without_thread: Callable[[], object]) -> None:
        thread = threading.Thread(target=in_thread, name=name)
        try:
            thread.start()
        except RuntimeError:  # the system cannot create more threads
            without_thread()
        else:
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]


def close(connection: Connection, deadline: Deadline | float) -> list[Event]:
    """Close a connection within a deadline, or a number of seconds. Log a warning if its end mark was not delivered.

    Blocks; see ``Connection.finish``.

    Returns:
        The events received meanwhile. A transcription service may send its last transcript after the end mark.
    """
    events = connection.finish(deadline if isinstance(deadline, Deadline) else Deadline(deadline))
    if not connection.is_end_delivered:
        log.warning("%s: end mark not delivered, reason=%s", connection.service, connection.close_reason)
    return events


_EXPIRED = Deadline(0.0)

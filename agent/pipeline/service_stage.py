"""Base class of the stages that own a service connection: mailbox, wait loop and closing sequence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from agent.pipeline.events import Event
from agent.pipeline.stage import Stage
from agent.services.connection.closing import AdjustableDeadline, BackgroundCloser
from agent.services.connection.poll import Poller
from agent.services.connection.standby import Standby
from agent.services.protocols.codec import Event as CodecEvent
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline, HasFileno, Mailbox

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

MAX_WAIT_SECONDS = 1.0
"""Upper bound of one wait, so that the heartbeat continues while the stage is idle."""
MAX_REST_SECONDS = 0.5
"""Longest time for which a session is not read. The pongs of the connection are delayed by up to this time."""


class Session(Protocol):
    """One exchange with a service over one connection. Not thread-safe; owned by the thread of the stage."""

    connection: Connection

    def next_timeout(self) -> float | None: ...


Command = TypeVar("Command")
AnySession = TypeVar("AnySession", bound=Session)


class CloseTiming(NamedTuple):
    """Upper bounds for closing the connections of a stage, in seconds. Immutable.

    Args:
        stop_seconds: For all connections together, after ``stop()``.
        abort_seconds: For all connections together, after ``abort()``.
        connection_seconds: For one connection that is closed in the background.
    """

    stop_seconds: float
    abort_seconds: float
    connection_seconds: float


class ServiceStage(Stage, Generic[Command, AnySession]):
    """A worker that waits for its commands, its session and its standby connections with one poll.

    A subclass puts its commands into ``_mailbox`` (thread-safe) and implements the methods that raise
    ``NotImplementedError``. The stage always closes all connections with their end marks, also after an error.
    ``abort`` and the public methods of a subclass are thread-safe; everything else is owned by the stage's thread.
    """

    def __init__(
        self,
        name: str,
        report: Callable[[Event], None],
        timing: CloseTiming,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        super().__init__(name, report)
        self._max_wait_seconds = max_wait_seconds
        self._mailbox: Mailbox[Command] = Mailbox()
        self._session: AnySession | None = None
        self._rested_since: float | None = None  # data that is read now may have arrived since this time
        self._closer = BackgroundCloser(timing.connection_seconds)
        self._timing = timing
        self._close_deadline = AdjustableDeadline(None)

    def abort(self) -> None:
        # The deadline also applies to a close that is already in progress.
        self._close_deadline.expire_by(Deadline(self._timing.abort_seconds))

    def run(self) -> None:
        try:
            while not self._is_done():
                self._wait()
                for command in self._mailbox.take():
                    self._handle(command)
                self._advance()
        finally:
            self._finish()
            self._mailbox.close()

    def _wait(self) -> None:
        """Wait until there is work other than reading from the session. The wait itself reads from the session."""
        standbys = self._standbys()
        poller = Poller([self._mailbox, *self._inputs(), *(each for one in standbys for each in one.waitables())])
        timeouts = [self._max_wait_seconds, *(one.next_timeout() for one in standbys), *self._timeouts()]
        end = time.monotonic() + min(each for each in timeouts if each is not None)
        while True:
            session, seconds = self._session, max(0.0, end - time.monotonic())
            connection: Connection | None = None
            self._rested_since = None
            if session is not None:
                connection = session.connection
                if (due_seconds := session.next_timeout()) is not None and due_seconds < seconds:
                    seconds = due_seconds
                if not connection.has_more and (rest_seconds := self._rest_seconds()) > 0:
                    seconds = min(seconds, rest_seconds, MAX_REST_SECONDS)
                    connection, self._rested_since = None, time.monotonic()
            _, ready = poller.wait(connection, seconds)
            self.heartbeat()
            if ready or session is None or time.monotonic() >= end:
                return
            if not self._receive() or self._session is not session:
                return

    def _rest_seconds(self) -> float:
        """Return how many seconds the session may stay unread: reading several messages at once costs less CPU time."""
        return 0.0

    def _receive(self) -> bool:
        """Read from the session; return whether the wait may continue. A replaced session also ends the wait."""
        return False

    def _is_done(self) -> bool:
        """Return whether the loop ends."""
        raise NotImplementedError

    def _standbys(self) -> Sequence[Standby]:
        """Return all standby connections that the stage owns."""
        raise NotImplementedError

    def _handle(self, command: Command) -> None:
        """Process one command."""
        raise NotImplementedError

    def _advance(self) -> None:
        """Do all work that is possible without waiting."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Clean up at the end of the thread, also after an error: call ``_close_services`` and report the remaining
        work."""
        raise NotImplementedError

    def _inputs(self) -> Sequence[HasFileno]:
        """Return further sources that wake the loop when they are readable."""
        return ()

    def _timeouts(self) -> Sequence[float | None]:
        """Return further limits of the next wait, in seconds."""
        return ()

    def _close_session(self) -> None:
        """Close the connection of the session in the background."""
        session, self._session = self._session, None
        if session is not None:
            self._closer.close_connection(session.connection)

    def _close_services(self) -> list[CodecEvent]:
        """Close all connections concurrently within the close timing; return the last events of the session."""
        self._close_deadline.expire_by(Deadline(self._timing.stop_seconds))
        connection = None if self._session is None else self._session.connection
        return self._closer.close_all(connection, self._standbys(), self._close_deadline)

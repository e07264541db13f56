"""Keeps one connection to a service open in standby and reconnects it with backoff."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.errors import AgentError, ServiceError
from agent.services.connection.closing import RECHECK_SECONDS, BackgroundCloser, close
from agent.services.protocols import codec as wire
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Backoff, Deadline, HasFileno, Mailbox

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

MAX_QUICK_DROPS = 3
"""After this many connections in a row that the service closed soon after the handshake, the key counts as refused:
some services respond to an invalid key in this way."""

MAX_QUICK_DROPS_PROVEN = 8
"""Used in place of ``MAX_QUICK_DROPS`` once the key has worked. A service that restarts behind a proxy also drops
connections. Eight attempts with backoff take about 30 s, longer than such a restart. Three take about 1 s, and then the
next attempt would follow only after ``refused_seconds``."""

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
"""The states of the circuit breaker of a service. Closed: requests go to the service. Open: the last attempt failed,
and no request goes to the service until the delay has passed. Half-open: the result of the next attempt decides."""

RENEWAL_FRACTION = 0.9
"""An unused connection is replaced after this fraction of ``max_idle_seconds``, before the service closes it."""


class StandbyTiming(NamedTuple):
    """Durations of a standby, in seconds. Immutable.

    Args:
        give_up_seconds: Limit of the wait of ``close`` for a dial in progress.
        close_seconds: Limit for closing one unused connection in the background.
        dial_seconds: Limit for DNS, TCP, TLS and upgrade together.
        healthy_seconds: A connection that has been open this long ends the failure state.
        refused_seconds: Shortest delay before the next attempt after a permanent error.
        quick_drop_seconds: A connection that fails sooner after it was opened counts towards ``MAX_QUICK_DROPS``.
        report_seconds: A transient error is reported to ``on_down`` only if the next attempt is due later than this
            time after the first failure.
    """

    give_up_seconds: float
    close_seconds: float
    dial_seconds: float = 10.0
    healthy_seconds: float = 5.0
    refused_seconds: float = 60.0
    quick_drop_seconds: float = 1.0
    report_seconds: float = 0.0


class Sound(NamedTuple):
    """Identifies how the speech of a service sounds. Immutable.

    ``settings`` holds all settings that change the sound, as text without secrets. ``voice`` is the name of the voice.
    """

    settings: str
    voice: str = ""


class Standby:
    """Keeps one connection open, so that a request costs one round trip; reconnects it with backoff.

    Not thread-safe; owned by the thread of the stage. The owner waits until one of ``waitables()`` is readable or
    ``next_timeout()`` has passed, and then calls ``maintain()``. It calls ``take()`` when it needs the connection, and
    ``close()`` at its end. Short-lived threads dial, and close unused connections. Only one thread uses a connection at
    a time.

    Attributes:
        error: The current error; ``None`` outside a failure state.
        failed_attempts: Number of failed attempts in the current failure state.
        failing_since: Time of the first of these failures (``time.monotonic()``).
        failed_at: Time of the last of these failures (``time.monotonic()``).
        is_eager: Whether the standby dials again without a request.
        sound: Identifies the sound of the service; ``None`` if it is unknown.
        with_voice: Builds a standby of the same service with another voice; ``None`` if the voice cannot be changed.
        is_reserved: Whether only replies, and announcements that name the service, may use the standby.

    Args:
        service: Name of the service in the configuration.
        open: Dials the service; called in a separate thread. Raises ``AgentError``.
        on_down: Called with the error when failures begin, and again if the error becomes permanent.
        on_up: Called with the number of failed attempts when failures that were reported to ``on_down`` end.
        on_connected: Called when the service accepts the first connection.
        eager: Dial the next connection as soon as one is taken; otherwise only after ``request()``, or after a
            ``take()`` that returned ``None``.
        backoff: Delays between attempts.
        timing: Durations.
        sound: See the attribute.
        on_breaker: Called with the new state of the circuit breaker when a call has changed it.
    """

    def __init__(
        self,
        service: str,
        open: Callable[[Deadline], Connection],
        on_down: Callable[[ServiceError], None],
        on_up: Callable[[int], None],
        on_connected: Callable[[], None] = lambda: None,
        *,
        eager: bool = True,
        backoff: Backoff | None = None,
        timing: StandbyTiming,
        sound: Sound | None = None,
        on_breaker: Callable[[str], None] = lambda state: None,
    ) -> None:
        self.service = service
        self.sound = sound
        self.with_voice: Callable[[str], Standby] | None = None
        self.is_reserved = False
        self._on_breaker = on_breaker
        self._breaker = CLOSED  # the state last reported to on_breaker
        self.error: ServiceError | None = None
        self.failed_attempts = 0
        self.failing_since = self.failed_at = 0.0
        self.is_eager = eager
        self._open, self._on_down, self._on_up, self._on_connected = open, on_down, on_up, on_connected
        self._has_connected = False
        self._is_requested = True
        self._is_reported = False  # whether on_down was called for the current failure state
        self._backoff = backoff or Backoff()
        self._timing = timing
        self._dial_results: Mailbox[Connection | ServiceError] = Mailbox()
        self._lock = threading.Lock()  # between the end of a dial and close(): only one of them closes the connection
        self._is_closed = False
        self._dial_limit = Deadline(None)  # set by begin_close(): limit of the wait for a dial in progress
        self._dialer: threading.Thread | None = None
        self._is_closing_late = False  # the dialer thread closes a connection that was opened after begin_close()
        self._closer = BackgroundCloser(self._timing.close_seconds)
        self._connection: Connection | None = None
        self._opened_at = 0.0  # of the connection in standby
        self._taken_opened_at = 0.0  # of the connection that was taken last
        self._not_before = 0.0
        self._quick_drops = 0
        self._is_proven = False  # this key has worked: a result was delivered, or a connection stayed open

    @property
    def is_dialing(self) -> bool:
        """Whether a dial is in progress."""
        return self._dialer is not None

    @property
    def breaker(self) -> str:
        """State of the circuit breaker: ``closed``, ``open`` or ``half-open``."""
        if self.error is None:
            return CLOSED
        is_waiting = self._dialer is None and self._connection is None and time.monotonic() < self._not_before
        return OPEN if is_waiting else HALF_OPEN

    def waitables(self) -> Sequence[HasFileno]:
        """Return the objects that the owner must poll for reading."""
        return [self._dial_results] if self._connection is None else [self._dial_results, self._connection]

    def next_timeout(self) -> float | None:
        """Return the seconds until ``maintain`` is due even if nothing is readable; ``None`` if it is not due."""
        now = time.monotonic()
        if self._is_closed:
            return None
        if self._connection is None:
            is_idle = self._dialer is not None or not (self.is_eager or self._is_requested)
            return None if is_idle else max(0.0, self._not_before - now)
        timeouts = [] if self.error is None else [self._opened_at + self._timing.healthy_seconds - now]
        own, max_silence = self._connection.next_timeout(), self._connection.codec.max_idle_seconds
        timeouts += [] if own is None else [own]
        timeouts += [] if max_silence is None else [self._opened_at + max_silence * RENEWAL_FRACTION - now]
        return max(0.0, min(timeouts)) if timeouts else None

    def maintain(self) -> None:
        """Do all work that is due, without blocking: collect dial results, check the connection, replace it, dial."""
        if self._is_closed:
            return
        for result in self._dial_results.take():
            self._dialer = None
            if isinstance(result, ServiceError):
                self._fail(result)
            else:
                self._connection, self._opened_at = result, time.monotonic()
                if not self._has_connected:
                    self._has_connected = True
                    self._on_connected()
        self._check_connection()
        can_dial = self._connection is None and self._dialer is None
        if can_dial and (self.is_eager or self._is_requested) and time.monotonic() >= self._not_before:
            self._start_dialing()
        self._report_breaker()

    def take(self) -> Connection | None:
        """Hand the connection over to the caller; ``None`` if there is no healthy one (see ``error``).

        The next connection is dialed immediately if ``eager`` is set, or if there was no connection to take.
        """
        self.maintain()
        taken, self._connection = self._connection, None
        self._is_requested = taken is None
        if taken is not None:
            self._taken_opened_at = self._opened_at
        self.maintain()
        return taken

    def request(self) -> None:
        """Request a connection: ``maintain`` dials it, also if ``eager`` is not set."""
        self._is_requested = True

    def retry_now(self) -> None:
        """Retry without the rest of the delay, unless the error is permanent or the service asked for a later retry."""
        if self.error is not None and not (self.error.permanent or self.error.is_busy):
            self._not_before, self._is_requested = 0.0, True
            self.maintain()

    def report_success(self) -> None:
        """Report that the service delivered a result on a taken connection. This ends the failure state."""
        if self._is_closed:
            return
        self._backoff.reset()
        self._quick_drops, self._not_before, self._is_proven = 0, 0.0, True
        self.error = None
        if self._is_reported:
            self._is_reported = False
            self._on_up(self.failed_attempts)
        self.failed_attempts = 0
        self._report_breaker()

    def report_failure(
        self,
        reason: str,
        *,
        permanent: bool = False,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        transient: bool = False,
    ) -> None:
        """Report that the connection that was taken last failed; the arguments are those of ``ServiceError``."""
        error = ServiceError(
            self.service,
            _without_prefix(reason, self.service),
            permanent=permanent,
            retry_after_seconds=retry_after_seconds,
            status=status,
            transient=transient,
        )
        self._lose(self._taken_opened_at, error)

    def reconnect(self) -> None:
        """Replace the connection in standby, which may be lost without an error (for example after a suspend)."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._is_requested = True
            self._closer.close_connection(connection)

    def retry_in_seconds(self) -> float:
        """Return the seconds until the next attempt is allowed; 0 if it is allowed now."""
        return max(0.0, self._not_before - time.monotonic())

    def begin_close(self, deadline: Deadline) -> None:
        """Stop dialing and start to close the connection, without waiting. ``close`` calls this method."""
        with self._lock:
            if not self._is_closed:
                self._dial_limit = Deadline(self._timing.give_up_seconds)
            self._is_closed = True
        self._closer.expire_by(deadline)
        for result in self._dial_results.take():
            if not isinstance(result, ServiceError):
                self._closer.close_connection(result)
        if self._connection is not None:
            self._closer.close_connection(self._connection)
            self._connection = None

    def close(self, deadline: Deadline) -> None:
        """Close the connection and join the threads. Idempotent.

        A dial in progress is abandoned after ``give_up_seconds``: no text was sent on its connection, and its thread
        ends within ``dial_seconds``. If the dial completes before, ``close`` waits until the thread has closed the new
        connection with an end mark. Blocks until ``deadline`` at most.
        """
        self.begin_close(deadline)
        self._closer.join(deadline)
        dialer = self._dialer
        while dialer is not None and dialer.is_alive() and not deadline.is_expired:
            if self._dial_limit.is_expired and not self._is_closing_late:
                break
            dialer.join(deadline.within(RECHECK_SECONDS).remaining())
        self._dial_results.close()

    def _check_connection(self) -> None:
        """Read from the connection in standby; drop it if it has closed, reported a fatal error, or is too old."""
        connection = self._connection
        if connection is None:
            return
        events = connection.pump()
        age_seconds = time.monotonic() - self._opened_at
        fatal = next((event for event in events if isinstance(event, wire.Failure) and event.fatal), None)
        if connection.is_closed or fatal is not None:
            self._connection = None
            # Services close idle connections. So the close of a connection that was open for ``healthy_seconds`` is not
            # an error.
            is_unusual = not connection.is_closed or (fatal is not None and fatal.permanent)
            self._closer.close_connection(connection)
            if is_unusual or age_seconds < self._timing.healthy_seconds:
                self._lose(self._opened_at, self._error_of(fatal))
            return
        if self.error is not None and age_seconds >= self._timing.healthy_seconds:
            self.report_success()
        max_silence = connection.codec.max_idle_seconds
        if max_silence is not None and age_seconds >= max_silence * RENEWAL_FRACTION:
            self._connection = None
            self._closer.close_connection(connection)

    def _error_of(self, fatal: wire.Failure | None) -> ServiceError:
        if fatal is None:
            return ServiceError(self.service, "closed the connection soon after the handshake")
        return ServiceError(
            self.service,
            _without_prefix(str(fatal), self.service),
            permanent=fatal.permanent,
            retry_after_seconds=fatal.retry_after_seconds,
            status=fatal.status,
        )

    def _lose(self, opened_at: float, error: ServiceError) -> None:
        if error.is_busy:  # the service reports that it is busy, so an early close does not mean a refused key
            self._fail(error)
            return
        is_quick = time.monotonic() - opened_at < self._timing.quick_drop_seconds
        self._quick_drops = self._quick_drops + 1 if is_quick else 0
        max_drops = MAX_QUICK_DROPS_PROVEN if self._is_proven else MAX_QUICK_DROPS
        if self._quick_drops >= max_drops and not error.permanent:
            reason = _without_prefix(str(error), self.service)
            count = self._quick_drops
            message = f"accepted {count} connections and closed each immediately ({reason}): check api_key and url"
            error = ServiceError(self.service, message, permanent=True, status=error.status)
        self._fail(error)

    def _fail(self, error: ServiceError) -> None:
        if self._is_closed:
            return  # the standby that replaces this one now reports the failures of the service
        previous, self.error = self.error, error
        self.failed_attempts += 1
        self.failed_at = time.monotonic()
        if previous is None:
            self.failing_since = self.failed_at
        at_least_seconds = self._timing.refused_seconds if error.permanent else 0.0
        delay_seconds = self._backoff.next_seconds(max(at_least_seconds, error.retry_after_seconds or 0.0))
        self._not_before = time.monotonic() + delay_seconds
        report_at = self.failing_since + self._timing.report_seconds
        is_due = not error.is_transient or self._not_before > report_at
        if (is_due and not self._is_reported) or (error.permanent and previous is not None and not previous.permanent):
            self._is_reported = True
            self._on_down(error)
        self._report_breaker()

    def _report_breaker(self) -> None:
        state = self.breaker
        if state != self._breaker:
            self._breaker = state
            self._on_breaker(state)

    def _start_dialing(self) -> None:
        # Imported here and not in the new thread: two threads that import at the same time slow each other down,
        # because the GIL changes hands at each file.
        import agent.services.connection.websocket  # noqa: F401

        # A daemon thread: a dial that hangs in the resolver must not keep the process from exiting.
        thread = threading.Thread(target=self._dial, name=f"dial {self.service}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system cannot create more threads
            self._fail(ServiceError(self.service, f"cannot dial: {error}"))
        else:
            self._dialer = thread

    def _dial(self) -> None:
        result: Connection | ServiceError = ServiceError(self.service, "the dial failed with an internal error")
        try:
            result = self._open(Deadline(self._timing.dial_seconds))
        except ServiceError as error:
            result = error
        except AgentError as error:  # for example an unreadable key file
            result = ServiceError(self.service, str(error), permanent=not _is_out_of_resources(error.__cause__))
        finally:
            with self._lock:
                is_closed = self._is_closed
                self._is_closing_late = is_closed
                if not is_closed:
                    self._dial_results.put(result)
            if is_closed and not isinstance(result, ServiceError):
                close(result, self._timing.close_seconds)  # not used any more, but open: send its end mark


def _is_out_of_resources(error: BaseException | None) -> bool:
    """Return whether this machine lacks file descriptors or memory, which is temporary."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _without_prefix(text: str, service: str) -> str:
    return text.removeprefix(f"{service}: ").removeprefix(f"{service} ")

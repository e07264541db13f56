"""One connection to a service, kept ready so that the first word costs one round trip, and the patience to get it."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.errors import AgentError, ServiceError
from agent.services.connection.closing import BACKGROUND_CLOSE_SECONDS, RECHECK_SECONDS, BackgroundCloser, close
from agent.services.connection.poll import HasFileno
from agent.services.protocols import codec as wire
from agent.system.threads import Backoff, Deadline, Mailbox

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

DIAL_SECONDS = 10.0
HEALTHY_SECONDS = 5.0
"""A connection that has held for so long ends the trouble; one that merely began does not."""

AT_ONCE_SECONDS, AT_ONCE_TIMES = 1.0, 3
"""A connection that is dropped this soon, this many times in a row, is a refusal: so some services answer a bad key."""

AT_ONCE_TIMES_PROVEN = 8
"""The same where the key was good before: that many tries take half a minute, which is longer than a restart behind a
proxy. After three, within a second, a service that had just begun to restart was left alone for a minute."""

REFUSED_SECONDS = 60.0
"""A refusal that trying again does not change is tried again no sooner."""

RENEW_SHARE = 0.9
"""Of the time that the service keeps an unused connection; then it is replaced, before the service drops it."""

GIVE_UP_SECONDS = 0.2
"""A dial that is under way when all ends is waited for no longer."""


class Standby:
    """Keeps one connection warm: dials again when it dies, grows old or was taken, and waits longer after each failure.

    One thread owns it: it waits for ``waitables()`` and ``next_timeout()`` beside its own things, calls ``mind()`` when
    it wakes, ``take()`` when it needs the connection, and ``close()`` in every ending. Dialling, and saying goodbye to
    a connection that nobody used (End, then close), happen in short-lived threads, which get or give it whole.

    ``open`` dials, in a thread of its own, and raises ``ServiceError``. ``eager``: the next connection is dialled when
    one is taken; otherwise when it is asked for, for who needs just one. ``on_down`` is called with the error when
    trouble begins (again if it turns out to be permanent), ``on_up`` with the number of failed tries when
    it is over. ``error`` is the reason while there is trouble.
    """

    def __init__(
        self,
        service: str,
        open: Callable[[Deadline], Connection],
        on_down: Callable[[ServiceError], None],
        on_up: Callable[[int], None],
        *,
        eager: bool = True,
        backoff: Backoff | None = None,
        dial_seconds: float = DIAL_SECONDS,
        healthy_seconds: float = HEALTHY_SECONDS,
        refused_seconds: float = REFUSED_SECONDS,
    ) -> None:
        self.service = service
        self.error: ServiceError | None = None
        self.tries = 0  # in vain, since the trouble began
        self.failed_at = 0.0  # when it was tried in vain last; as of time.monotonic()
        self._open, self._on_down, self._on_up = open, on_down, on_up
        self._eager, self._wanted = eager, True
        self._backoff = backoff or Backoff()
        self._dial_seconds, self._healthy_seconds = dial_seconds, healthy_seconds
        self._refused_seconds = refused_seconds
        self._dialled: Mailbox[Connection | ServiceError] = Mailbox()
        self._lock = threading.Lock()  # between the end of a dial and close(): one of them ends the connection
        self._closed = False
        self._given_up = Deadline(None)  # when a dial under way is not waited for any more, once it is closed
        self._dialling: threading.Thread | None = None
        self._parting = False  # what was dialled came too late and is being taken leave of
        self._farewells = BackgroundCloser()
        self._connection: Connection | None = None
        self._since = 0.0  # when the connection in standby was ready
        self._taken_since = 0.0  # the same of the one that was taken last
        self._not_before = 0.0
        self._dropped = 0
        self._proven = False  # whether the service has ever done its work with this key

    @property
    def is_dialing(self) -> bool:
        """Whether a connection may be there soon."""
        return self._dialling is not None

    def waitables(self) -> Sequence[HasFileno]:
        """What the owner waits for to be readable."""
        return [self._dialled] if self._connection is None else [self._dialled, self._connection]

    def next_timeout(self) -> float | None:
        """Seconds until ``mind`` has to be called even if nothing happens; ``None``: never."""
        now = time.monotonic()
        if self._closed:
            return None
        if self._connection is None:
            idle = self._dialling is not None or not (self._eager or self._wanted)
            return None if idle else max(0.0, self._not_before - now)
        moments = [] if self.error is None else [self._since + self._healthy_seconds - now]
        own, silent = self._connection.next_timeout(), self._connection.codec.silent_seconds
        moments += [] if own is None else [own]
        moments += [] if silent is None else [self._since + silent * RENEW_SHARE - now]
        return max(0.0, min(moments)) if moments else None

    def maintain(self) -> None:
        """Does what is due: fetches what was dialled, notices a death, renews, dials. Never blocks."""
        if self._closed:
            return
        for found in self._dialled.take():
            self._dialling = None
            if isinstance(found, ServiceError):
                self._failed(found)
            else:
                self._connection, self._since = found, time.monotonic()
        self._check()
        idle = self._connection is None and self._dialling is None
        if idle and (self._eager or self._wanted) and time.monotonic() >= self._not_before:
            self._start_dialling()

    def take(self) -> Connection | None:
        """The connection, now the caller's own, or ``None`` where there is none that is healthy (see ``error``).

        The next connection is dialled at once.
        """
        self.maintain()
        taken, self._connection = self._connection, None
        self._wanted = taken is None
        if taken is not None:
            self._taken_since = self._since
        self.maintain()
        return taken

    def request(self) -> None:
        """A connection will be needed again: where ``eager`` is not set, the next ``mind`` dials it."""
        self._wanted = True

    def report_success(self) -> None:
        """The service has done its work on a connection that was taken: whatever the trouble was, it is over."""
        if self._closed:
            return
        self._backoff.reset()
        self._dropped, self._not_before, self._proven = 0, 0.0, True
        if self.error is not None:
            self.error = None
            self._on_up(self.tries)
        self.tries = 0

    def report_failure(
        self,
        reason: str,
        *,
        permanent: bool = False,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """A connection that was taken did not do what it was for."""
        error = ServiceError(
            self.service,
            _bare(reason, self.service),
            permanent=permanent,
            retry_after_seconds=retry_after_seconds,
            status=status,
        )
        self._lost(self._taken_since, error)

    def reconnect(self) -> None:
        """The connection may have died unnoticed: the next ``mind`` dials another in its place."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._wanted = True
            self._farewells.close_connection(connection)

    def retry_in_seconds(self) -> float:
        """How long after a failure the next try is put off, by the service's own wish or for decency; 0: it is due."""
        return max(0.0, self._not_before - time.monotonic())

    def begin_close(self, deadline: Deadline) -> None:
        """The first half of ``close``, which does not wait: nothing is dialled any more, and the goodbye begins."""
        with self._lock:
            if not self._closed:
                self._given_up = Deadline(GIVE_UP_SECONDS)
            self._closed = True
        self._farewells.expire_by(deadline)
        for found in self._dialled.take():
            if not isinstance(found, ServiceError):
                self._farewells.close_connection(found)
        if self._connection is not None:
            self._farewells.close_connection(self._connection)
            self._connection = None

    def close(self, deadline: Deadline) -> None:
        """Says goodbye to the connection and joins the threads. A dial that is under way is given up: nothing was said
        on it, and its thread ends by itself, at the latest with the dial's own deadline. Twice is safe."""
        self.begin_close(deadline)
        self._farewells.join(deadline)
        dialling = self._dialling
        # A connection that came too late is taken leave of by the thread that dialled it: that is waited for.
        while dialling is not None and dialling.is_alive() and not deadline.is_expired:
            if self._given_up.is_expired and not self._parting:
                break
            dialling.join(deadline.within(RECHECK_SECONDS).remaining())
        self._dialled.close()

    def _check(self) -> None:
        """Looks at the connection as it waits: what it says is of no use to anybody, that it lives is."""
        connection = self._connection
        if connection is None:
            return
        said = connection.pump()
        age = time.monotonic() - self._since
        fatal = next((event for event in said if isinstance(event, wire.Failure) and event.fatal), None)
        if connection.is_closed or fatal is not None:
            self._connection = None
            # One that had held and is gone is nothing unusual (services let idle ones go): it is simply dialled again.
            unusual = not connection.is_closed or (fatal is not None and fatal.permanent)
            connection.abort()
            if unusual or age < self._healthy_seconds:
                self._lost(self._since, self._reason(fatal))
            return
        if self.error is not None and age >= self._healthy_seconds:
            self.report_success()
        silent = connection.codec.silent_seconds
        if silent is not None and age >= silent * RENEW_SHARE:
            self._connection = None
            self._farewells.close_connection(connection)

    def _reason(self, fatal: wire.Failure | None) -> ServiceError:
        if fatal is None:
            return ServiceError(self.service, "hung up soon after the dial")
        return ServiceError(
            self.service,
            _bare(str(fatal), self.service),
            permanent=fatal.permanent,
            retry_after_seconds=fatal.retry_after_seconds,
            status=fatal.status,
        )

    def _lost(self, since: float, error: ServiceError) -> None:
        if error.is_busy:  # it says itself what is the matter, and when to come again: no refusal, however soon it came
            self._failed(error)
            return
        self._dropped = self._dropped + 1 if time.monotonic() - since < AT_ONCE_SECONDS else 0
        most = AT_ONCE_TIMES_PROVEN if self._proven else AT_ONCE_TIMES
        if self._dropped >= most and not error.permanent:
            said = _bare(str(error), self.service)
            what = f"accepted {self._dropped} connections and dropped each at once ({said}): check api_key and url"
            error = ServiceError(self.service, what, permanent=True, status=error.status)
        self._failed(error)

    def _failed(self, error: ServiceError) -> None:
        if self._closed:
            return  # whoever comes after it, if anybody, tells of the service now
        known, self.error = self.error, error
        self.tries += 1
        self.failed_at = time.monotonic()
        floor = self._refused_seconds if error.permanent else 0.0
        wait_seconds = self._backoff.next_seconds(max(floor, error.retry_after_seconds or 0.0))
        self._not_before = time.monotonic() + wait_seconds
        if known is None or (error.permanent and not known.permanent):
            self._on_down(error)

    def _start_dialling(self) -> None:
        thread = threading.Thread(target=self._dial, name=f"dial {self.service}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives us no more threads
            self._failed(ServiceError(self.service, f"cannot be dialled: {error}"))
        else:
            self._dialling = thread

    def _dial(self) -> None:
        found: Connection | ServiceError = ServiceError(self.service, "the dial broke off inside")
        try:
            found = self._open(Deadline(self._dial_seconds))
        except ServiceError as error:
            found = error
        except AgentError as error:  # a key that cannot be read, for one
            found = ServiceError(self.service, str(error), permanent=not _is_want(error.__cause__))
        finally:
            with self._lock:
                closed = self._closed
                self._parting = closed
                if not closed:
                    self._dialled.put(found)
            if closed and not isinstance(found, ServiceError):
                close(
                    found, BACKGROUND_CLOSE_SECONDS
                )  # it came too late to be of use, but it is open and gets its end mark


def _is_want(error: BaseException | None) -> bool:
    """Whether it is this machine that has no more to give, which passes."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _bare(text: str, service: str) -> str:
    return text.removeprefix(f"{service}: ").removeprefix(f"{service} ")

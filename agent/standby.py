"""One connection kept warm, so that the first word costs one round trip."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from agent.connection import Connection
from agent.errors import AgentError, ServiceError
from agent.farewells import Farewells, part
from agent.protocols.events import Failure
from agent.threads import Backoff, Deadline

log = logging.getLogger(__name__)

DIAL_SECONDS = 5.0
"""DNS, TCP, TLS and upgrade together."""

PERMANENT_SECONDS = 60.0
"""A refused key is tried again this seldom: it may have been put right at the other end."""

HEALTHY_SECONDS = 1.0
"""A connection that does not even live so long was a refusal, whatever the handshake said."""

MOST_SHORT_LIVES = 3


class Standby:
    """Keeps one connection to a service ready. It belongs to the thread that owns the connections.

    ``tend`` is called as the owner goes round its loop: it takes over what was dialled, notices that the waiting
    connection has died, renews it before its idle limit, and dials again after a pause that grows. ``fileno`` wakes
    the owner when a dial has ended. ``take`` hands the ready connection over, or returns ``None`` while there is none;
    ``error`` then says why, where the last dial failed. ``report_lost`` tells of a connection that was taken and
    broke. ``close`` gives the waiting connection its end mark.
    """

    def __init__(self, service: str, open: Callable[[Deadline], Connection], backoff: Backoff | None = None) -> None:
        self.service = service
        self.error: ServiceError | None = None
        self._open = open
        self._backoff = backoff or Backoff()
        self._ready: Connection | None = None
        self._dialled: queue.SimpleQueue[Connection | ServiceError] = queue.SimpleQueue()
        self._dialling: threading.Thread | None = None
        self._not_before = 0.0
        self._short_lives = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._farewells = Farewells()

    def fileno(self) -> int:
        return self._wake

    def next_timeout(self) -> float | None:
        """Seconds until ``tend`` has something to do although nothing wakes the owner."""
        if self._ready is not None:
            limit = self._ready.codec.silent_seconds
            idle = None if limit is None else self._ready.opened_at + limit - time.monotonic()
            waits = [each for each in (self._ready.next_timeout(), idle) if each is not None]
            return max(0.0, min(waits)) if waits else None
        if self._dialling is not None:
            return None
        return max(0.0, self._not_before - time.monotonic())

    def tend(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while not self._dialled.empty():
            self._take_over(self._dialled.get())
        self._look_after()
        if self._ready is None and self._dialling is None and time.monotonic() >= self._not_before:
            self._dial()

    def take(self) -> Connection | None:
        self.tend()
        connection, self._ready = self._ready, None
        if connection is not None:
            self._dial()
        return connection

    def close(self) -> None:
        """Ends the waiting connection in good order, and any that is still being dialled as soon as that is done."""
        if self._closed:
            return
        self._closed = True
        if self._dialling is not None:
            self._dialling.join(DIAL_SECONDS)
        while not self._dialled.empty():
            self._take_over(self._dialled.get())
        if self._ready is not None:
            part(self._ready, 1.0)
            self._ready = None
        self._farewells.join(Deadline(1.0))
        os.close(self._wake)
        self._wake = -1

    def _dial(self) -> None:
        if self._closed or self._dialling is not None:
            return
        self._dialling = threading.Thread(target=self._call, name=f"{self.service} dial")
        self._dialling.start()

    def _call(self) -> None:
        try:
            self._dialled.put(self._open(Deadline(DIAL_SECONDS)))
        except ServiceError as error:
            self._dialled.put(error)
        except AgentError as error:
            self._dialled.put(ServiceError(self.service, str(error), permanent=True))
        os.eventfd_write(self._wake, 1)

    def _take_over(self, found: Connection | ServiceError) -> None:
        self._dialling = None
        if isinstance(found, ServiceError):
            self._refused(found)
            return
        if self.error is not None:
            self.error = None
        self._ready = found

    def _refused(self, error: ServiceError) -> None:
        self.error = error
        at_least = PERMANENT_SECONDS if error.permanent else error.retry_after_seconds or 0.0
        self._not_before = time.monotonic() + self._backoff.next_seconds(at_least)

    def _look_after(self) -> None:
        ready = self._ready
        if ready is None:
            return
        failures = [event for event in ready.pump() if isinstance(event, Failure) and event.fatal]
        age = time.monotonic() - ready.opened_at
        limit = ready.codec.silent_seconds
        if ready.ended or failures:
            self._ready = None
            self._farewells.take(ready)
            if age < HEALTHY_SECONDS:
                self._short_lives += 1
                reason = failures[0] if failures else f"it closed at once ({ready.close_code})"
                permanent = bool(failures and failures[0].permanent) or self._short_lives >= MOST_SHORT_LIVES
                self._refused(ServiceError(self.service, str(reason), permanent=permanent, status=ready.close_code))
        elif limit is not None and age >= limit:
            self._ready = None
            self._farewells.take(ready)
        if age >= HEALTHY_SECONDS:
            self._short_lives = 0
            self._backoff.healthy()

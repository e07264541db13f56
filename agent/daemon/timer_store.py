"""Stores the timers across restarts and a loss of power."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.daemon.store_thread import StoreThread
from agent.pipeline.events import Event, TimersRestored, WorkerCrashed
from agent.pipeline.timers import Timer, TimerState, local_seconds
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

# The store thread imports SQLite and JSON, because most daemons have no timer.
if TYPE_CHECKING:
    from agent.daemon.database import Database

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
_EXAMPLE = Timer(1)
"""Its values have the types that a decoded row must have."""


class _Save(NamedTuple):
    """A request to write all timers; ``done`` receives whether they are on the disk. Immutable."""

    timers: tuple[Timer, ...]
    done: Callable[[bool], None]


class TimerStore:
    """Writes the timers to a file, in the store thread.

    The store thread starts with the first timer, or at ``start`` if the file exists. Thread-safe.

    Args:
        path: The SQLite file, which need not exist; ``None`` to store nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._report: Callable[[Event], None] = lambda event: None
        self._commands: queue.SimpleQueue[_Save | None] = queue.SimpleQueue()
        self._thread = StoreThread(
            "timer store", "timers", self._serve, lambda error: self._report(WorkerCrashed("timer store", error))
        )
        self._is_read = threading.Event()
        # Owned by the store thread:
        self._database: Database | None = None
        self._timers: tuple[Timer, ...] = ()
        self._is_loaded = self._is_failing = self._is_durable = False
        self._retry_at = Deadline(0.0)

    def start(self, report: Callable[[Event], None], deadline: Deadline) -> None:
        """Read the file, if it exists, and report ``TimersRestored``. Waits for the result until the deadline."""
        self._report = report
        if self._path is not None and os.path.exists(self._path) and self._thread.start():
            self._is_read.wait(deadline.remaining())

    def save(self, timers: tuple[Timer, ...], done: Callable[[bool], None] = lambda durable: None) -> None:
        """Write all timers. ``done`` receives whether they are on the disk, in the store thread or in this thread."""
        if self._path is not None and self._thread.start():
            self._commands.put(_Save(timers, done))
        else:
            done(False)

    def close(self, deadline: Deadline) -> None:
        """Write the pending changes and end the thread. Waits until the deadline: the disk may hang. Idempotent."""
        if self._thread.has_started:
            self._commands.put(None)
            self._thread.join(deadline)

    def _serve(self) -> None:
        self._save()
        self._is_read.set()
        while True:
            try:
                command = self._commands.get(timeout=self._retry_at.remaining() if self._is_failing else None)
            except queue.Empty:
                self._is_durable = self._save()
                continue
            if command is None:
                break
            is_same = self._is_durable and command.timers == self._timers
            self._timers = command.timers
            self._is_durable = is_same or self._save()
            command.done(self._is_durable)
        if self._database is not None:
            self._database.close()

    def _save(self) -> bool:
        """Write all timers; return whether they are on the disk.

        The first successful call reads the file. If the file has timers, the call only reports them.
        """
        if self._is_failing and not self._retry_at.is_expired:
            return False
        assert self._path is not None
        try:
            from agent.daemon.database import TIMERS, Database, DatabaseUnusable
        except OSError as error:  # no file descriptor is free
            self._fail(str(error))
            return False
        try:
            if self._database is None:
                self._database = Database(self._path, TIMERS)
            is_first = not self._is_loaded
            restored = self._read(self._database) if is_first else ()
            self._is_loaded = True
            if restored:
                self._report(TimersRestored(restored))  # the receiver then saves all timers again
                return False
            if self._timers or not is_first:  # ``start`` waits for this thread, so an empty file is not written
                self._database.write([(each.number, _encode(each)) for each in self._timers], [], replaces_all=True)
        except DatabaseUnusable as error:
            self._database = None
            self._fail(str(error))
            return False
        if self._is_failing:
            log.info("timers: written again, path=%s", self._path)
        self._is_failing = False
        return True

    @staticmethod
    def _read(database: Database) -> tuple[Timer, ...]:
        try:
            return tuple(_decode(data) for _, data in database.read())
        except (ValueError, TypeError, KeyError, OverflowError) as error:  # values that this program did not write
            database.replace(f"a row is damaged: {error}")
            return ()

    def _fail(self, reason: str) -> None:
        self._retry_at = Deadline(RETRY_SECONDS)
        if not self._is_failing:
            self._is_failing = True
            log.warning(
                "timers: lost at the next restart, path=%s, %s. Free disk space or make it writable",
                self._path,
                escape(reason),
            )


def _encode(timer: Timer) -> str:
    import json

    return json.dumps(timer._asdict() | {"state": timer.state.value})


def _decode(data: str) -> Timer:
    """Return the timer of a row.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: The row is damaged.
    """
    import json

    fields = json.loads(data)
    fields["state"] = TimerState(fields["state"])
    timer = Timer(**fields)
    for value, example in zip(timer, _EXAMPLE, strict=True):
        if not isinstance(value, int | float if isinstance(example, float) else type(example)):
            raise ValueError(f"unexpected value: {value!r:.60}")
    if timer.is_alarm:
        local_seconds(timer.alarm)
    return timer

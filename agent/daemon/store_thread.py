"""Provides the thread in which a store reads and writes its file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agent.system.threads import Deadline

log = logging.getLogger(__name__)


class StoreThread:
    """The thread of a store, which is started when the store has work for it. Thread-safe.

    Args:
        name: Name of the thread.
        subject: Subject of the log line if the system cannot create the thread.
        serve: The body of the thread; it returns when the store is closed.
        crashed: Receives an unexpected exception, in the store thread. The daemon then ends, as after a worker crash.
    """

    def __init__(
        self, name: str, subject: str, serve: Callable[[], None], crashed: Callable[[BaseException], None]
    ) -> None:
        self._name, self._subject, self._serve, self._crashed = name, subject, serve, crashed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def has_started(self) -> bool:
        return self._thread is not None

    def start(self) -> bool:
        """Start the thread unless it has been started; return ``False`` if the system cannot create it."""
        with self._lock:
            if self._thread is None:
                # A daemon thread: a write that hangs in a dead disk must not keep the process alive.
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the thread limit of the system
                    log.warning("%s: not stored, a restart loses it, %s", self._subject, error)
                    return False
                self._thread = thread
        return True

    def join(self, deadline: Deadline) -> None:
        """Wait for the end of the thread until the deadline: the disk may hang."""
        if self._thread is not None:
            self._thread.join(deadline.remaining())

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - reported to the main thread
            self._crashed(error)

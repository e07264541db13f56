"""Provides the building blocks of the daemon's threads: Worker, Mailbox, Deadline and Backoff."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from agent.errors import AgentError

Item = TypeVar("Item")


class HasFileno(Protocol):
    """An object that ``poll`` can wait for."""

    def fileno(self) -> int: ...


class Deadline:
    """A time on the monotonic clock that limits a sequence of steps, instead of one timeout for each step.

    Thread-safe.

    Args:
        seconds: Seconds from now, or ``None`` for a deadline that never expires.
    """

    __slots__ = ("_at",)

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0; ``None`` without a limit. Suits ``select``, ``join``, ``settimeout``."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def is_expired(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at

    def within(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and ``seconds`` from now."""
        remaining = self.remaining()
        return Deadline(seconds if remaining is None else min(seconds, remaining))


class Backoff:
    """Delays between attempts: a random part of a ceiling that doubles with each attempt (full jitter).

    The random numbers come from the kernel: the module ``random`` and its imports take 0.3 MiB of memory.
    Not thread-safe; owned by the thread that retries.

    Args:
        first_seconds: Ceiling of the first delay, in seconds.
        cap_seconds: Highest ceiling, in seconds.
    """

    def __init__(self, first_seconds: float = 0.5, cap_seconds: float = 30.0) -> None:
        self._first_seconds, self._cap_seconds = first_seconds, cap_seconds
        self.tries = 0

    def next_seconds(self, at_least_seconds: float = 0.0) -> float:
        """Count an attempt and return the delay before the next one.

        Args:
            at_least_seconds: Lower limit, for example the Retry-After of a service. The jitter is added to it, so that
                the clients of a service do not retry at the same time.
        """
        ceiling: float = min(self._cap_seconds, self._first_seconds * 2 ** min(self.tries, 16))
        self.tries += 1
        return at_least_seconds + ceiling * int.from_bytes(os.urandom(4), "big") / 2**32

    def reset(self) -> None:
        """Restart with the first delay. Call it after the operation has been stable for some time, not at its start."""
        self.tries = 0


class Mailbox(Generic[Item]):
    """A queue with a file descriptor, so that the owner of a socket can wait for both with one ``poll``.

    ``put`` is thread-safe and never blocks. ``take`` and ``close`` are owned by the receiving thread.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def put(self, item: Item) -> None:
        """Append an item. After ``close`` the item is dropped, because the receiver has ended."""
        with self._lock:
            if self._fd < 0:
                return
            self._items.append(item)
            os.eventfd_write(self._fd, 1)

    def take(self) -> list[Item]:
        """Remove and return all items, oldest first."""
        if not self._items:
            return []  # no lock is needed: the descriptor stays readable for an item that arrives now
        with self._lock:
            if not self._items:
                return []
            os.eventfd_read(self._fd)
            items = list(self._items)
            self._items.clear()
            return items

    def fileno(self) -> int:
        """Return a descriptor that is readable while items are queued; -1 after ``close``."""
        return self._fd

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def start_thread(thread: threading.Thread) -> threading.Thread:
    """Start a thread and return it.

    Raises:
        AgentError: The system cannot create more threads.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise AgentError(f"the thread for the {thread.name} cannot be started: {error}") from error
    return thread


class Worker:
    """A named thread with a heartbeat, which ends after ``stop()`` or ``abort()``.

    ``stop()`` ends the input and drains the queued data; ``abort()`` drops the queued data. Both are idempotent.
    ``run()`` is the body of the thread; it calls ``heartbeat()`` at least every ``stall_timeout`` seconds.
    ``start``, ``stop``, ``abort`` and ``join`` are thread-safe; the rest is owned by the worker's thread.

    Args:
        name: Name of the thread, shown in log lines and stack dumps.
        on_crash: Called in the worker's thread with the name and the exception when ``run`` raises.
    """

    stall_timeout = 10.0

    def __init__(self, name: str, on_crash: Callable[[str, BaseException], None]) -> None:
        self.name = name
        self.heartbeats = 0
        self.on_heartbeat: Callable[[], None] | None = None  # set before start()
        self._on_crash = on_crash
        self._start_gate: threading.Event | None = None
        self._thread = threading.Thread(target=self._main, name=name)

    def start(self, start_gate: threading.Event | None = None) -> None:
        """Start the thread.

        Args:
            start_gate: The thread waits for this event before it calls ``run``. ``start`` does not wait.

        Raises:
            AgentError: The system cannot create more threads.
        """
        self._start_gate = start_gate
        start_thread(self._thread)

    def stop(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.stop")

    def abort(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.abort")

    def run(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.run")

    def heartbeat(self) -> None:
        """Record progress for the watchdog. Called by ``run``."""
        self.heartbeats += 1
        if self.on_heartbeat is not None:
            self.on_heartbeat()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def ident(self) -> int | None:
        return self._thread.ident

    def join(self, deadline: Deadline) -> bool:
        """Wait for the end of the thread; return whether it has ended. A thread that never started has ended."""
        if self._thread.ident is not None:
            self._thread.join(deadline.remaining())
        return not self._thread.is_alive()

    def _main(self) -> None:
        if self._start_gate is not None:
            self._start_gate.wait()
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - a worker must not end silently, whatever the exception
            self._on_crash(self.name, error)

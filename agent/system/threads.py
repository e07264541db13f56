"""What every thread of the daemon is made of: Worker, Mailbox, Deadline, Backoff."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.errors import AgentError

if TYPE_CHECKING:
    import random

Item = TypeVar("Item")


class Deadline:
    """One moment on the monotonic clock, passed down through many steps instead of a time-out for each.

    ``Deadline(None)`` never comes. ``remaining()`` is in seconds, never negative, and ``None`` where it never comes:
    just what ``select``, ``join`` and ``settimeout`` take.
    """

    __slots__ = ("_at",)

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def is_expired(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at

    def within(self, seconds: float) -> Deadline:
        """The earlier of this moment and ``seconds`` from now."""
        remaining = self.remaining()
        return Deadline(seconds if remaining is None else min(seconds, remaining))


class Backoff:
    """How long to wait before the next try: full jitter under a ceiling that doubles, reset only after health.

    ``next_seconds()`` counts a try; ``healthy()`` is called when the thing tried for has held, never merely begun.
    """

    def __init__(self, first_seconds: float = 0.5, cap_seconds: float = 30.0, seed: int | None = None) -> None:
        self._first, self._cap = first_seconds, cap_seconds
        self._seed = seed
        self._random: random.Random | None = None
        self.tries = 0

    def next_seconds(self, at_least_seconds: float = 0.0) -> float:
        if self._random is None:
            import random  # a start at which nothing fails does without

            self._random = random.Random(self._seed)
        ceiling = min(self._cap, self._first * 2 ** min(self.tries, 16))
        self.tries += 1
        # A service's own Retry-After is a floor; jitter on top of it keeps a fleet from coming back in step.
        return at_least_seconds + self._random.uniform(0.0, ceiling)

    def reset(self) -> None:
        self.tries = 0


class Mailbox(Generic[Item]):
    """Letters to the one thread that owns a socket: a queue with a file descriptor, so that ``select`` sees both.

    ``put`` never blocks and may be called from any thread. ``fileno`` is readable while a letter waits.
    """

    def __init__(self) -> None:
        self._letters: deque[Item] = deque()
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def put(self, letter: Item) -> None:
        with self._lock:
            if self._fd < 0:
                return  # the owner has gone: nobody will ever read this
            self._letters.append(letter)
            os.eventfd_write(self._fd, 1)

    def take(self) -> list[Item]:
        """All letters that wait, oldest first; empty when none does."""
        with self._lock:
            if not self._letters:
                return []
            os.eventfd_read(self._fd)
            letters = list(self._letters)
            self._letters.clear()
            return letters

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Gives the descriptor back; called by the owner as it ends, twice is safe."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def start_thread(thread: threading.Thread) -> threading.Thread:
    """The thread, which runs now. Raises ``AgentError`` where the system gives no more threads."""
    try:
        thread.start()
    except RuntimeError as error:
        raise AgentError(f"the thread for the {thread.name} cannot be started: {error}") from error
    return thread


class Worker:
    """One thread with a name, a heartbeat and two ways to end.

    ``stop()`` ends the input and lets the rest flow out; ``abort()`` drops it. Both may be called twice and from any
    thread. ``run()`` is what the thread does; it calls ``beat()`` each time it goes round its loop, at least every
    ``stall_timeout``. An exception that leaves ``run`` is passed to ``on_crash`` with the
    worker's name: a worker never ends silently.
    """

    stall_timeout = 10.0

    def __init__(self, name: str, on_crash: Callable[[str, BaseException], None]) -> None:
        self.name = name
        self._on_crash = on_crash
        self.heartbeats = 0
        self.on_heartbeat: Callable[[], None] | None = None  # set before the start, by who watches over all
        self._held: threading.Event | None = None
        self._thread = threading.Thread(target=self._main, name=name)

    def start(self, held: threading.Event | None = None) -> None:
        """With ``held`` the thread is up when this returns, and begins its work once that is set. ``AgentError``: the
        system gives no more threads."""
        self._held = held
        start_thread(self._thread)

    def stop(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.stop")

    def abort(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.abort")

    def run(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.run")

    def heartbeat(self) -> None:
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
        """Waits for the thread's end; tells whether it came in time. A thread that was never started has ended."""
        if self._thread.ident is not None:
            self._thread.join(deadline.remaining())
        return not self._thread.is_alive()

    def _main(self) -> None:
        if self._held is not None:
            self._held.wait()
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - whatever ended the thread must be told
            self._on_crash(self.name, error)

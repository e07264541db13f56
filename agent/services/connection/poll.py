"""Waits for a connection, a mailbox and other descriptors with one ``poll``."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar


class HasFileno(Protocol):
    """An object that ``poll`` can wait for."""

    def fileno(self) -> int: ...


class Pollable(HasFileno, Protocol):
    """The part of ``Connection`` that waiting needs. Not thread-safe; owned by the thread that waits."""

    @property
    def wants_write(self) -> bool: ...
    def next_timeout(self) -> float | None: ...


Waitable = TypeVar("Waitable", bound=HasFileno)


def wait(
    connection: Pollable | None, others: Sequence[Waitable], timeout_seconds: float | None
) -> tuple[bool, list[Waitable]]:
    """Wait until a connection needs ``pump``, another object is readable, or the timeout passes.

    Args:
        connection: Its own deadlines are part of the wait.
        others: Objects to wait for; those with descriptor -1 are skipped.
        timeout_seconds: ``None`` for no limit.

    Returns:
        Whether the connection needs ``pump``, and the readable objects of ``others``.
    """
    poll = select.poll()  # not select(), which fails for descriptors above 1023
    descriptor = connection.fileno() if connection is not None else -1
    due_seconds = None
    if connection is not None:
        due_seconds = connection.next_timeout()
        if descriptor >= 0:
            poll.register(descriptor, select.POLLIN | (select.POLLOUT if connection.wants_write else 0))
    for other in others:
        if other.fileno() >= 0:
            poll.register(other.fileno(), select.POLLIN)
    timeout = min((seconds for seconds in (due_seconds, timeout_seconds) if seconds is not None), default=None)
    start = time.monotonic()
    milliseconds = None if timeout is None else int(timeout * 1000) + (timeout > 0)  # rounded up: no busy loop
    ready = {number for number, _ in poll.poll(milliseconds)}
    is_due = due_seconds is not None and time.monotonic() - start >= due_seconds
    return descriptor in ready or is_due, [other for other in others if other.fileno() in ready]

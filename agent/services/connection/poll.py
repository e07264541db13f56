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


_READ, _READ_OR_WRITE = select.POLLIN, select.POLLIN | select.POLLOUT

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
    descriptor, due_at = -1, None
    if connection is not None:
        descriptor = connection.fileno()
        due_seconds = connection.next_timeout()
        if due_seconds is not None:
            due_at = time.monotonic() + due_seconds
            if timeout_seconds is None or due_seconds < timeout_seconds:
                timeout_seconds = due_seconds
        if descriptor >= 0:
            poll.register(descriptor, _READ_OR_WRITE if connection.wants_write else _READ)
    for other in others:
        if (number := other.fileno()) >= 0:
            poll.register(number, _READ)
    # Rounded up: no busy loop.
    milliseconds = None if timeout_seconds is None else int(timeout_seconds * 1000) + (timeout_seconds > 0)
    ready = dict(poll.poll(milliseconds))
    if descriptor in ready and len(ready) == 1:
        return True, []
    is_due = due_at is not None and time.monotonic() >= due_at
    return descriptor in ready or is_due, [other for other in others if other.fileno() in ready]

"""Waits for a connection, a mailbox and other objects with one call of ``poll``."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from agent.system.threads import HasFileno


class Pollable(HasFileno, Protocol):
    """The part of ``Connection`` that ``Poller`` uses. Not thread-safe; owned by the thread that waits."""

    @property
    def wants_write(self) -> bool: ...
    def next_timeout(self) -> float | None: ...


_READ, _READ_OR_WRITE = select.POLLIN, select.POLLIN | select.POLLOUT

Waitable = TypeVar("Waitable", bound=HasFileno)


def wait(
    connection: Pollable | None, others: Sequence[Waitable], timeout_seconds: float | None
) -> tuple[bool, list[Waitable]]:
    """Wait once; arguments and result are those of ``Poller`` and ``Poller.wait``."""
    return Poller(others).wait(connection, timeout_seconds)


class Poller(Generic[Waitable]):
    """Waits repeatedly for a connection and the same other objects. Not thread-safe; owned by the thread that waits.

    Args:
        others: Objects to wait for. Those with the descriptor -1 are skipped. The other descriptors must not change.
    """

    def __init__(self, others: Sequence[Waitable]) -> None:
        self._poll = select.poll()  # not select(), which fails for descriptors above 1023
        self._others = {number: other for other in others if (number := other.fileno()) >= 0}
        for number in self._others:
            self._poll.register(number, _READ)
        self._registered = (-1, 0)  # descriptor of the connection, and events

    def wait(self, connection: Pollable | None, timeout_seconds: float | None) -> tuple[bool, list[Waitable]]:
        """Wait until the connection needs ``pump``, another object is readable, or the timeout passes.

        Args:
            connection: The connection; ``next_timeout`` limits the wait as well. ``None``: wait for the others only.
            timeout_seconds: ``None``: no limit.

        Returns:
            Whether the connection needs ``pump``, and the readable objects of ``others``.
        """
        due_at = None
        if connection is None:
            self._register(-1, 0)
        else:
            self._register(connection.fileno(), _READ_OR_WRITE if connection.wants_write else _READ)
            if (due_seconds := connection.next_timeout()) is not None:
                due_at = time.monotonic() + due_seconds
                if timeout_seconds is None or due_seconds < timeout_seconds:
                    timeout_seconds = due_seconds
        # Rounded up: a timeout of 0 ms before the deadline would cause a busy loop.
        milliseconds = None if timeout_seconds is None else int(timeout_seconds * 1000) + (timeout_seconds > 0)
        ready = self._poll.poll(milliseconds)
        descriptor = self._registered[0]
        if len(ready) == 1 and ready[0][0] == descriptor:
            return True, []
        numbers = {number for number, _ in ready}
        is_due = due_at is not None and time.monotonic() >= due_at
        return descriptor in numbers or is_due, [self._others[number] for number in numbers if number != descriptor]

    def _register(self, descriptor: int, events: int) -> None:
        if self._registered == (descriptor, events):
            return
        if self._registered[0] >= 0:
            self._poll.unregister(self._registered[0])
        if descriptor >= 0:
            self._poll.register(descriptor, events)
        self._registered = (descriptor, events)

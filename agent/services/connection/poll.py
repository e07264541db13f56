"""The one place where the owner of a socket waits: for the socket, its mailbox, and whatever else has a descriptor."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar


class HasFileno(Protocol):
    """Something ``poll`` can wait for."""

    def fileno(self) -> int: ...


class Pumped(HasFileno, Protocol):
    """A ``Connection``, seen from below."""

    @property
    def wants_write(self) -> bool: ...
    def next_timeout(self) -> float | None: ...


Waitable = TypeVar("Waitable", bound=HasFileno)


def wait(
    connection: Pumped | None, others: Sequence[Waitable], timeout_seconds: float | None
) -> tuple[bool, list[Waitable]]:
    """Waits for a connection that wants its ``pump``, or for any of ``others`` to be readable, or for the time-out.

    Returns whether the connection wants it, and those of the others that are readable. ``others`` without a descriptor
    any more (-1) are passed over. The connection's own deadlines are kept: they count as wanting.
    """
    poll = select.poll()  # not select(): a descriptor above 1023 is nothing special
    own = connection.fileno() if connection is not None else -1
    due = None
    if connection is not None:
        due = connection.next_timeout()
        if own >= 0:
            poll.register(own, select.POLLIN | (select.POLLOUT if connection.wants_write else 0))
    for other in others:
        if other.fileno() >= 0:
            poll.register(other.fileno(), select.POLLIN)
    patience = min((seconds for seconds in (due, timeout_seconds) if seconds is not None), default=None)
    began = time.monotonic()
    ready = {number for number, _ in poll.poll(None if patience is None else int(patience * 1000) + (patience > 0))}
    overdue = due is not None and time.monotonic() - began >= due
    return own in ready or overdue, [other for other in others if other.fileno() in ready]

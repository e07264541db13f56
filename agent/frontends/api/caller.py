"""The programs that send requests, their rights and their persistent connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from agent.frontends.api.subscription import Subscription


class ProgramConnection:
    """A persistent connection to a program. Only the ``Hub`` changes the sets; other threads may test them.

    Args:
        deliver: Sends one notification, without a line end. Called by any thread; it must not block.
        wake: Called when events are queued in ``subscription``, or when the connection may no longer be needed. Called
            by any thread; it must not block.

    Attributes:
        awaited: Ids of the utterances whose end is sent to the program.
        texts: Ids of the texts that the program is sending in pieces.
        subscription: The subscription of the program; ``None`` without one.
        is_closed: The connection has ended.
    """

    def __init__(self, deliver: Callable[[bytes], None], wake: Callable[[], None]) -> None:
        self.deliver, self.wake = deliver, wake
        self.awaited: set[str] = set()
        self.texts: set[str] = set()
        self.subscription: Subscription | None = None
        self.is_closed = False

    @property
    def is_waiting(self) -> bool:
        """Whether the program waits for notifications, or is sending a text in pieces."""
        return bool(self.awaited or self.texts) or self.subscription is not None


class Caller(NamedTuple):
    """The program that sends a request, and its rights. Immutable.

    Args:
        source: The name of the transport, which appears in the log.
        may_read_texts: Whether it may receive transcripts and the texts of utterances.
        may_control: Whether it may use all methods; otherwise only those with ``Method.is_read_only``.
        connection: Its persistent connection; ``None`` without one (HTTP, MQTT and the satellite).
    """

    source: str
    may_read_texts: bool = False
    may_control: bool = False
    connection: ProgramConnection | None = None

"""The timers of one connection: when a ping is due, and when a silent or stalled connection counts as lost."""

from __future__ import annotations

import time
from collections.abc import Callable

PING_SECONDS, PONG_SECONDS = 5.0, 4.5
"""A silent peer gets a ping after the first and is lost after the second: 9.5 s together. The kernel needs longer: its
keepalive does not run while data is unacknowledged, and then tcp_retries2=15 means at least 924 s (ip-sysctl)."""

STALL_SECONDS = 10.0
"""The connection is lost after this time in the middle of a frame, or without progress of a write. A timeout of
``recv`` does not detect half a frame: websocket-client 1.9.2 checks its pings only between frames."""

STALL_BYTES_PER_SECOND = 4096
"""Each time this many bytes of a frame arrive, its limit grows by one second, so that a slow network is not a stall."""

PING_DUE = "a ping is due"


def suspended_seconds() -> float:
    """Return how long the machine has been suspended since boot, which CLOCK_MONOTONIC excludes (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Keepalive:
    """Tracks the traffic of a connection and computes its deadlines. Not thread-safe; owned by its connection.

    A suspend of the machine counts as silence of the peer: after a long suspend, a ping is due immediately. A suspend
    never means that the peer is lost, because the ping may have been sent just before it.

    Args:
        ping_seconds: Silence before a ping; ``None`` for no pings.
        pong_seconds: Silence after a ping that means the peer is lost.
        stall_seconds: See ``STALL_SECONDS``.
        suspended: Returns the seconds that the machine has been suspended; tests pass their own.
    """

    def __init__(
        self,
        ping_seconds: float | None,
        pong_seconds: float,
        stall_seconds: float,
        suspended: Callable[[], float] = suspended_seconds,
    ) -> None:
        self._suspended = suspended
        self._ping_seconds, self._pong_seconds, self._stall_seconds = ping_seconds, pong_seconds, stall_seconds
        self._received_at = self._written_at = time.monotonic()
        self._suspended_seconds = self._suspended()  # as of the last reception
        self._pinged_at: float | None = None
        self._frame_started_at: float | None = None
        self._frame_bytes = 0

    def received(self, nbytes: int) -> None:
        """Record received bytes."""
        self._received_at, self._suspended_seconds = time.monotonic(), self._suspended()
        self._pinged_at = None
        self._frame_bytes += nbytes

    def written(self) -> None:
        """Record that bytes were sent, or that the send buffer was empty and is not any more."""
        self._written_at = time.monotonic()

    def ping_sent(self) -> None:
        self._pinged_at = time.monotonic()

    def frame_state(self, is_partial: bool, *, is_new: bool) -> None:
        """Record whether a frame is incomplete; ``is_new``: a frame was completed since the last call."""
        if not is_partial:
            self._frame_started_at = None
        elif self._frame_started_at is None or is_new:
            self._frame_started_at, self._frame_bytes = self._received_at, 0

    def next_seconds(self, *, is_sending: bool) -> float | None:
        """Return the seconds until the first deadline, at least 0; ``None`` if there is none."""
        deadlines = self.deadlines(is_sending=is_sending)
        if not deadlines:
            return None
        first = deadlines[0][0] if len(deadlines) == 1 else min(deadlines)[0]
        return max(0.0, first - time.monotonic())

    def deadlines(self, *, is_sending: bool) -> list[tuple[float, str]]:
        """Return each deadline (``time.monotonic()``) with ``PING_DUE`` or the reason why the connection is lost."""
        deadlines: list[tuple[float, str]] = []
        if is_sending:
            deadlines.append((self._written_at + self._stall_seconds, "the service stopped reading"))
        if self._frame_started_at is not None:
            extension = self._frame_bytes / STALL_BYTES_PER_SECOND
            stalled_at = min(self._received_at, self._frame_started_at + extension) + self._stall_seconds
            deadlines.append((stalled_at, "the service stopped in the middle of a message"))
        if self._ping_seconds is not None:
            if self._pinged_at is None:
                suspended = self._suspended() - self._suspended_seconds
                deadlines.append((self._received_at + self._ping_seconds - suspended, PING_DUE))
            else:
                deadlines.append((self._pinged_at + self._pong_seconds, "the service does not answer pings"))
        return deadlines

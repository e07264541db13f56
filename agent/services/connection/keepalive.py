"""Computes when a ping is due on a connection, and when a silent or stalled connection counts as lost."""

from __future__ import annotations

import time
from collections.abc import Callable

PING_SECONDS, PONG_SECONDS = 5.0, 4.5
"""A ping is sent after ``PING_SECONDS`` without received data. The peer is lost after another ``PONG_SECONDS``: 9.5 s
together. TCP keepalive cannot replace the pings: it does not run while data is unacknowledged, and then the kernel
retries for at least 924 s (tcp_retries2=15, ip-sysctl)."""

STALL_SECONDS = 10.0
"""The connection is lost if a frame stays incomplete, or the socket accepts no data, for this time. The pings of
websocket-client 1.9.2 do not detect an incomplete frame, because that library checks them only between frames."""

STALL_BYTES_PER_SECOND = 4096
"""The limit for a frame grows by one second each time this many of its bytes arrive, because a slow network is not a
stall. A pause of ``STALL_SECONDS`` inside a frame always ends the connection."""

PING_DUE = "a ping is due"


def suspended_seconds() -> float:
    """Return the seconds of suspend since boot, which CLOCK_MONOTONIC does not count (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Keepalive:
    """Tracks the traffic of a connection and computes its deadlines. Not thread-safe; owned by its connection.

    The time of a suspend of the machine counts as time without received data: after a long suspend, a ping is due
    immediately. It does not count as time without a pong, because the ping may have been sent right before the suspend.

    Args:
        ping_seconds: A ping is due after this time without received data; ``None``: no pings.
        pong_seconds: The peer is lost after this time without received data after a ping.
        stall_seconds: See ``STALL_SECONDS``.
        suspended: Returns the seconds that the machine was suspended since boot.
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
        """Record that bytes were sent, or that bytes were added to an empty send buffer."""
        self._written_at = time.monotonic()

    def ping_sent(self) -> None:
        self._pinged_at = time.monotonic()

    def frame_state(self, is_partial: bool, *, is_new: bool) -> None:
        """Record whether a frame is incomplete, after each read.

        Args:
            is_partial: Whether a part of a frame has arrived.
            is_new: Whether a frame was completed since the last call, so that the partial frame is another one.
        """
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

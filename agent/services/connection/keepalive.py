"""The clocks of one connection: when a sign of life is asked for, and when a silence is the end."""

from __future__ import annotations

import time

PING_SECONDS, PONG_SECONDS = 5.0, 4.5
"""A peer that is silent for the first is asked for a sign of life, and given up after the second: 9.5 s in all."""

STALL_SECONDS = 10.0
"""A frame half-way in, or bytes that nobody takes, for so long: the connection is dead."""

STALL_BYTES_PER_SECOND = 4096
"""So many bytes of a frame buy it one second more: a slow line is not a dead one."""

PING_DUE = "a ping is due"


class Keepalive:
    """Is told what moves, and says until when something has to be done. ``ping_seconds`` ``None``: nobody is asked.

    Time that the machine slept counts as silence of the peer, so that a ping is the first that follows a long sleep;
    but nobody is given up for it, for it may have been asked just before.
    """

    def __init__(self, ping_seconds: float | None, pong_seconds: float, stall_seconds: float) -> None:
        self._ping_seconds, self._pong_seconds, self._stall_seconds = ping_seconds, pong_seconds, stall_seconds
        self._received_at = self._progress_at = time.monotonic()
        self._slept = _slept_seconds()  # when something was received last
        self._pinged_at: float | None = None
        self._frame_at: float | None = None
        self._frame_got = 0

    def received(self, nbytes: int) -> None:
        self._received_at, self._slept = time.monotonic(), _slept_seconds()
        self._pinged_at = None
        self._frame_got += nbytes

    def progressed(self) -> None:
        """Something was sent, or there is something to send again."""
        self._progress_at = time.monotonic()

    def pinged(self) -> None:
        self._pinged_at = time.monotonic()

    def half_way(self, partial: bool, *, anew: bool) -> None:
        """Whether a frame is half-way in; ``anew``: another one than the last time."""
        if not partial:
            self._frame_at = None
        elif self._frame_at is None or anew:
            self._frame_at, self._frame_got = self._received_at, 0

    def moments(self, *, sending: bool) -> list[tuple[float, str]]:
        """Every moment at which something has to be done, and why: ``PING_DUE``, or what the end is to be called."""
        moments: list[tuple[float, str]] = []
        if sending:
            moments.append((self._progress_at + self._stall_seconds, "the service has stopped reading"))
        if self._frame_at is not None:
            bought = self._frame_got / STALL_BYTES_PER_SECOND
            stalled = min(self._received_at, self._frame_at + bought) + self._stall_seconds
            moments.append((stalled, "the service stopped in the middle of a message"))
        if self._ping_seconds is not None:
            if self._pinged_at is None:
                slept = _slept_seconds() - self._slept
                moments.append((self._received_at + self._ping_seconds - slept, PING_DUE))
            else:
                moments.append((self._pinged_at + self._pong_seconds, "the service gives no sign of life"))
        return moments


def _slept_seconds() -> float:
    """How long the machine has slept since it was started: the monotonic clock leaves that out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()

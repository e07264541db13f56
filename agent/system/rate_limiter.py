"""Provides a rate limiter."""

from __future__ import annotations

import time


class RateLimiter:
    """A token bucket that holds the tokens of one second. Not thread-safe; owned by the thread that takes the tokens.

    Args:
        per_second: Tokens added per second, and the capacity of the bucket.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._tokens = per_second
        self._updated_at = time.monotonic()

    def take(self) -> bool:
        """Take a token; return whether there was one."""
        now = time.monotonic()
        self._tokens = min(self._per_second, self._tokens + (now - self._updated_at) * self._per_second)
        self._updated_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait_seconds(self) -> float:
        """Return the seconds until a token is available."""
        return max(0.0, (1.0 - self._tokens) / self._per_second - (time.monotonic() - self._updated_at))

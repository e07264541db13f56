"""Limits how often something happens."""

from __future__ import annotations

import time


class RateLimiter:
    """A token bucket with room for one second. Not thread-safe; owned by the thread that takes the tokens."""

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
        """Return the time until the next token."""
        return max(0.0, (1.0 - self._tokens) / self._per_second - (time.monotonic() - self._updated_at))

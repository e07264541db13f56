"""Drift between the clock of a sound card and the monotonic clock."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

MIN_LOGGED_SECONDS = 0.1
"""A smaller drift is not logged: it may be the granularity of the card's counter."""


class ClockDrift:
    """Compares the frame counter of a card with the monotonic clock. Not thread-safe; owned by the device's thread.

    Args:
        rate: Nominal rate of the card in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self._frames, self._elapsed = 0, 0.0  # of the runs before the current one

    def observe(self, frames: int, now: float) -> None:
        """Note that the counter of the running card was at ``frames`` at the monotonic time ``now``."""
        if self._first is None:
            self._first = (frames, now)
        self._last = (frames, now)

    def pause(self) -> None:
        """End the current run: the card was stopped, or its counter does not advance."""
        self._frames, self._elapsed = self._totals()
        self._first = self._last = None

    @property
    def observed_seconds(self) -> float:
        """Duration of all runs."""
        return self._totals()[1]

    @property
    def seconds(self) -> float:
        """Time that the card has gained (negative: lost) in all runs."""
        frames, elapsed = self._totals()
        return frames / self._rate - elapsed

    @property
    def ppm(self) -> float:
        """The drift in parts per million; 0.0 without an observation."""
        return self.seconds / self.observed_seconds * 1e6 if self.observed_seconds else 0.0

    def log(self, name: str) -> None:
        """Log the drift of the device ``name`` if it is noticeable."""
        if abs(self.seconds) > MIN_LOGGED_SECONDS:
            log.info(
                "%s: clock drift, ppm=%+.0f, drift_seconds=%+.2f, observed_seconds=%.0f",
                name, self.ppm, self.seconds, self.observed_seconds,
            )  # fmt: skip

    def _totals(self) -> tuple[int, float]:
        if self._first is None or self._last is None:
            return self._frames, self._elapsed
        return self._frames + self._last[0] - self._first[0], self._elapsed + self._last[1] - self._first[1]

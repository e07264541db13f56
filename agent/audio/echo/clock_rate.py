"""The rate of a sound card's clock, by regression over its frame counter."""

from __future__ import annotations

import math

MIN_OBSERVATIONS = 20
"""Minimum number of observations for an estimate."""
MIN_RUN_OBSERVATIONS = 8
"""Minimum number of observations of a run that counts: about a second of speech."""


class ClockRate:
    """Estimates how much faster a card counts frames than the monotonic clock says. Not thread-safe.

    A run is an interval in which the counter advances. Each run has its own origin; all runs share one rate. Unlike
    ``ClockDrift``, which compares the ends of a run, the regression averages the errors of all readings.

    Args:
        rate: Nominal rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._totals = (0.0, 0.0, 0.0, 0)  # sums of the runs before the current one
        self._origin: tuple[float, float] | None = None
        self._count = 0
        self._mean_x = self._mean_y = self._sxx = self._sxy = self._syy = 0.0

    def observe(self, frames: float, now: float) -> None:
        """Note that the counter was at ``frames`` at the monotonic time ``now``."""
        if self._origin is None:
            self._origin = (frames, now)
        x = now - self._origin[1]
        y = frames - self._origin[0] - x * self._rate
        self._count += 1
        dx, dy = x - self._mean_x, y - self._mean_y
        self._mean_x += dx / self._count
        self._mean_y += dy / self._count
        self._sxx += dx * (x - self._mean_x)
        self._sxy += dx * (y - self._mean_y)
        self._syy += dy * (y - self._mean_y)

    def pause(self) -> None:
        """End the run: the counter stops or starts again."""
        self._totals = self._sums()
        self._origin, self._count = None, 0
        self._mean_x = self._mean_y = self._sxx = self._sxy = self._syy = 0.0

    @property
    def ppm(self) -> float:
        """The drift in parts per million; positive: the card is fast."""
        sxx, sxy, _, _ = self._sums()
        return sxy / sxx / self._rate * 1e6 if sxx else 0.0

    @property
    def error_ppm(self) -> float:
        """The standard error of ``ppm``; infinite without enough observations."""
        sxx, sxy, syy, count = self._sums()
        if count < MIN_OBSERVATIONS or not sxx:
            return math.inf
        variance = max(0.0, syy - sxy * sxy / sxx) / (count - 2)
        return math.sqrt(variance / sxx) / self._rate * 1e6

    def _sums(self) -> tuple[float, float, float, int]:
        sxx, sxy, syy, count = self._totals
        if self._count < MIN_RUN_OBSERVATIONS:
            return self._totals
        return sxx + self._sxx, sxy + self._sxy, syy + self._syy, count + self._count

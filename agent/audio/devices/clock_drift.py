"""How far a sound card's clock is off: every card has a quartz of its own, some of them a poor one."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

TOLD_SECONDS = 0.1
"""What a card gained or lost before it is worth a line: below that it may only be a coarse counter."""


class ClockDrift:
    """Compares a card's counter with the monotonic clock.

    ``at(frames, now)`` tells that the card's counter stood at ``frames`` at that moment; it only grows, until
    ``pause()`` says that the card was stopped. ``seconds`` is what the card has gained so far (negative: lost), in
    ``observed_seconds`` of running.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._since: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self._frames, self._elapsed = 0, 0.0

    def at(self, frames: int, now: float) -> None:
        if self._since is None:
            self._since = (frames, now)
        self._last = (frames, now)

    def pause(self) -> None:
        self._frames, self._elapsed = self._sum()
        self._since = self._last = None

    @property
    def observed_seconds(self) -> float:
        return self._sum()[1]

    @property
    def seconds(self) -> float:
        frames, elapsed = self._sum()
        return frames / self._rate - elapsed

    @property
    def ppm(self) -> float:
        """Parts per million; 0.0 as long as nothing has been observed."""
        return self.seconds / self.observed_seconds * 1e6 if self.observed_seconds else 0.0

    def tell(self, name: str) -> None:
        """One line for the log, where the card's clock is noticeably off."""
        if abs(self.seconds) > TOLD_SECONDS:
            log.info(
                "the clock of %s is off by %+.0f ppm: %+.2f s in %.0f s",
                name, self.ppm, self.seconds, self.observed_seconds,
            )  # fmt: skip

    def _sum(self) -> tuple[int, float]:
        if self._since is None or self._last is None:
            return self._frames, self._elapsed
        return self._frames + self._last[0] - self._since[0], self._elapsed + self._last[1] - self._since[1]

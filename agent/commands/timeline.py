"""When what happened in a turn: measured by the events themselves, printed with a bar for each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from agent.conversation import Record
from agent.events import Event, Heard, Reply, SpeakingBegan, SpeechEnded, Spoken

BAR = 40
NAMES = ("end of speech", "final transcript", "first reply text", "first audio", "last audio")


@dataclass
class Timeline:
    """The five moments of a turn, in seconds after the end of speech; a moment that has not come is missing.

    ``see`` is shown every event as it comes.
    """

    moments: dict[str, float] = field(default_factory=dict)
    _zero: float | None = None

    def see(self, event: Event | Record) -> None:
        match event:
            case SpeechEnded(ago_seconds):
                self._zero = time.monotonic() - ago_seconds
                self.moments = {NAMES[0]: 0.0}
            case Heard(text) if text:
                self._mark(NAMES[1])
            case Reply():
                self._mark(NAMES[2])
            case SpeakingBegan():
                self._mark(NAMES[3])
            case Spoken():
                self._mark(NAMES[4])

    def lines(self) -> list[str]:
        """A line for each moment, its bar drawn to scale."""
        longest = max(self.moments.values(), default=0.0) or 1.0
        return [
            f"{name:>16}  {seconds:6.2f} s  {'▇' * max(1, round(seconds / longest * BAR)) if seconds else '|'}"
            for name, seconds in self.moments.items()
        ]

    def _mark(self, name: str) -> None:
        if self._zero is not None:
            self.moments.setdefault(name, round(time.monotonic() - self._zero, 3))

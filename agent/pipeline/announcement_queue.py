"""What is waiting to be said: utterances by priority, and within a priority in the order they came."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from agent.pipeline.events import Utterance

MOST_WAITING = 100


@dataclass(slots=True)
class Draft:
    """What has come so far of the text of an announcement that still waits."""

    pieces: list[str] = field(default_factory=list)
    complete: bool = False


class Announcements:
    """A bounded waiting line. ``add`` tells whether there was room; a full line refuses the newcomer, whatever its
    priority, because everything in it has already been accepted and must end in a recorded state. ``draft`` is where
    the text of one that comes piece by piece is kept: ``None`` of all others."""

    def __init__(self) -> None:
        self._line: list[tuple[int, int, Utterance]] = []
        self._drafts: dict[str, Draft] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._line)

    def add(self, utterance: Utterance) -> bool:
        if len(self._line) >= MOST_WAITING:
            return False
        self._count += 1
        heapq.heappush(self._line, (-utterance.priority, self._count, utterance))
        if utterance.text is None:
            self._drafts[utterance.id] = Draft()
        return True

    def draft(self, utterance: str) -> Draft | None:
        return self._drafts.get(utterance)

    def next(self) -> tuple[Utterance, Draft | None] | None:
        """The one that is to be said now, taken out of the line; ``None`` when nothing waits."""
        if not self._line:
            return None
        utterance = heapq.heappop(self._line)[2]
        return utterance, self._drafts.pop(utterance.id, None)

    def clear(self) -> list[Utterance]:
        """Empties the line and gives back what was in it, in the order it would have been said."""
        waiting = [entry[2] for entry in sorted(self._line, key=lambda entry: entry[:2])]
        self._line.clear()
        self._drafts.clear()
        return waiting

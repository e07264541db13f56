"""The queue of announcements: by priority, and within one priority in the order of arrival."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from agent.pipeline.events import Utterance

MAX_QUEUED = 100


@dataclass(slots=True)
class PendingText:
    """The text received so far of a queued announcement. Not thread-safe; owned by the main thread."""

    pieces: list[str] = field(default_factory=list)
    is_complete: bool = False


class AnnouncementQueue:
    """A bounded priority queue. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Utterance]] = []
        self._pending: dict[str, PendingText] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, utterance: Utterance) -> bool:
        """Queue an utterance.

        Returns:
            Whether there was room. A full queue refuses the new utterance regardless of its priority, because every
            queued utterance has already been accepted and must end in a recorded state.
        """
        if len(self._heap) >= MAX_QUEUED:
            return False
        self._count += 1
        heapq.heappush(self._heap, (-utterance.priority, self._count, utterance))
        if utterance.text is None:
            self._pending[utterance.id] = PendingText()
        return True

    def pending_text(self, utterance: str) -> PendingText | None:
        """Return the text of a queued utterance that arrives in pieces; ``None`` for every other id."""
        return self._pending.get(utterance)

    def pop(self) -> tuple[Utterance, PendingText | None] | None:
        """Remove and return the next utterance; ``None`` when the queue is empty."""
        if not self._heap:
            return None
        utterance = heapq.heappop(self._heap)[2]
        return utterance, self._pending.pop(utterance.id, None)

    def clear(self) -> list[Utterance]:
        """Empty the queue and return its utterances in playback order."""
        queued = [entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2])]
        self._heap.clear()
        self._pending.clear()
        return queued

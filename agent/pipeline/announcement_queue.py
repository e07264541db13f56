"""The queue of utterances: important ones first, then by rank (``priority``), and by arrival within one rank."""

from __future__ import annotations

import heapq

from agent.pipeline.utterance import TIMER, Urgency, Utterance

MAX_QUEUED = 100
MAX_QUEUED_CHARACTERS = 1_000_000
"""Limit for the texts of all queued announcements together: ten texts of the maximum length."""


class PendingText:
    """The text received so far of a queued utterance. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0  # of all pieces, in characters
        self.is_complete = False


def queue_order(utterance: Utterance) -> tuple[bool, int]:
    """Return a key that sorts important utterances first, then the others by rank, the highest rank first."""
    is_important = utterance.urgency is Urgency.IMPORTANT
    return not is_important, 0 if is_important else -utterance.priority


class AnnouncementQueue:
    """A bounded priority queue of announcements and replies. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[bool, int, int, Utterance]] = []
        self._pending: dict[str, PendingText] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, utterance: str) -> bool:
        return any(entry[3].id == utterance for entry in self._heap)

    def add(self, utterance: Utterance) -> str | None:
        """Queue an utterance; a reply precedes the announcements of its rank.

        Returns:
            ``None``, or why there is no room. A full queue refuses the new utterance regardless of its priority,
            because every queued utterance has already been accepted and must end in a recorded state. A reply and a
            timer always have room: a conversation has one reply at a time, and each timer one utterance.
        """
        is_reply = utterance.turn > 0
        is_limited = not is_reply and utterance.source != TIMER
        if len(self._heap) >= MAX_QUEUED and is_limited:
            return f"{MAX_QUEUED} announcements wait already"
        if is_limited and (problem := self._length_problem(len(utterance.text or ""))) is not None:
            return problem
        self._count += 1
        heapq.heappush(self._heap, (*queue_order(utterance), 0 if is_reply else self._count, utterance))
        if utterance.text is None:
            self._pending[utterance.id] = PendingText()
        return None

    def append(self, utterance: str, text: str) -> str | None:
        """Add a piece to the text of a queued utterance.

        Returns:
            ``None``, or why there is no room.
        """
        if (problem := self._length_problem(len(text))) is None:
            pending = self._pending[utterance]
            pending.pieces.append(text)
            pending.length += len(text)
        return problem

    def _length_problem(self, more: int) -> str | None:
        length = sum(len(entry[3].text or "") for entry in self._heap)
        length += sum(pending.length for pending in self._pending.values())
        if length + more <= MAX_QUEUED_CHARACTERS:
            return None
        return f"the texts that wait would have more than {MAX_QUEUED_CHARACTERS:,} characters together"

    def pending_text(self, utterance: str) -> PendingText | None:
        """Return the text so far of a queued utterance whose text arrives in pieces; ``None`` for every other id."""
        return self._pending.get(utterance)

    @property
    def has_important(self) -> bool:
        """Whether the next utterance is an important one."""
        return bool(self._heap) and not self._heap[0][0]

    def precedes(self, rank: int) -> bool:
        """Whether the next utterance is spoken before a message of this rank."""
        return bool(self._heap) and self._heap[0][:2] < (True, -rank)

    def pop(self) -> tuple[Utterance, PendingText | None] | None:
        """Remove and return the next utterance; ``None`` when the queue is empty."""
        if not self._heap:
            return None
        utterance = heapq.heappop(self._heap)[3]
        return utterance, self._pending.pop(utterance.id, None)

    def remove(self, utterance: str) -> Utterance | None:
        """Remove and return one utterance; ``None`` if it is not queued."""
        for index, entry in enumerate(self._heap):
            if entry[3].id == utterance:
                del self._heap[index]
                heapq.heapify(self._heap)
                self._pending.pop(utterance, None)
                return entry[3]
        return None

    def clear(self) -> list[Utterance]:
        """Empty the queue and return its utterances in playback order."""
        queued = [entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:3])]
        self._heap.clear()
        self._pending.clear()
        return queued

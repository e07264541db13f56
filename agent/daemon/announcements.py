"""The announcements from their request to their recorded end: storage, time to live and the restart."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from agent.daemon.utterance_store import UtteranceStore
from agent.daemon.utterances import SpokenUtterance
from agent.pipeline.actions import Record
from agent.pipeline.announcement_queue import queue_order
from agent.pipeline.events import (
    Announce,
    Cancel,
    Event,
    Expired,
    Hush,
    ListenNow,
    ListenTimedOut,
    PlaybackStarted,
    Restored,
    TextComplete,
    TextPiece,
    UtteranceCancelled,
    Woken,
    WordTimedOut,
)
from agent.pipeline.interruptions import SPOKEN_OVER
from agent.pipeline.state import LISTEN_SECONDS
from agent.pipeline.utterance import TIMER, Utterance
from agent.system.threads import Deadline

LOAD_SECONDS = 2.0
"""Longest wait for the announcements from before the restart; a disk that hangs must not silence the daemon."""
WORD_SECONDS = 1.0
"""How long an utterance that the user spoke over waits for a word before it continues."""
_LISTEN, _WORD = "", " "
"""Keys of ``_timeouts`` that are no utterance: the wait for the user's speech, and the wait for a word."""


class Announcements:
    """Decides when an event about announcements is handled, and stores what happens to them.

    Not thread-safe; owned by the main thread.

    Args:
        store: Keeps them; ``None``: they are lost at the restart.
        load_seconds: Longest wait for those from before the restart.
    """

    def __init__(self, store: UtteranceStore | None, *, load_seconds: float = LOAD_SECONDS) -> None:
        self._store, self._load_seconds = store, load_seconds
        self._load_deadline: Deadline | None = None  # while the store reads its file
        self._held: list[Event] = []
        self._restored: set[str] = set()
        self._texts: dict[str, list[str]] = {}  # of announcements whose text arrives in pieces
        self._started_at: dict[str, float] = {}
        self._timeouts: dict[str, tuple[float, Event]] = {}

    def start(self, report: Callable[[Event], None]) -> None:
        """Read the announcements from before the restart, which ``report`` receives."""
        if self._store is not None and self._store.start(report):
            self._load_deadline = Deadline(self._load_seconds)

    def admit(self, event: Event) -> list[Event]:
        """Return the events to be handled now, in their order.

        New announcements wait for those from before the restart.
        """
        if isinstance(event, Restored):
            # In the order of the queue: the first one is spoken at once.
            restored = sorted(event.utterances, key=lambda each: queue_order(each.utterance))
            return [event, *itertools.starmap(self._announce_restored, restored), *self.release()]
        if self._load_deadline is not None and isinstance(event, Announce | TextPiece | TextComplete | Cancel | Hush):
            self._held.append(event)
            return []
        return [event]

    def release(self) -> list[Event]:
        """Return the events that wait for the announcements from before the restart; later ones do not wait."""
        self._load_deadline = None
        held, self._held = self._held, []
        return held

    def note(self, event: Event) -> None:
        """Note an event before the conversation handles it."""
        match event:
            case Announce(utterance):
                self._accept(utterance)
            case TextPiece(utterance, text) if (pieces := self._texts.get(utterance)) is not None:
                pieces.append(text)
            case TextComplete(utterance) if self._store is not None and utterance in self._texts:
                self._store.complete(utterance, "".join(self._texts.pop(utterance)))
            case PlaybackStarted(utterance):
                self._timeouts.pop(utterance, None)
                self._started_at.setdefault(utterance, time.time())
            case UtteranceCancelled(reason=reason) if reason == SPOKEN_OVER:
                self._timeouts[_WORD] = (_now() + WORD_SECONDS, WordTimedOut())
            case ListenNow() | Woken():
                self._timeouts[_LISTEN] = (_now() + LISTEN_SECONDS, ListenTimedOut())

    def end(self, record: Record, spoken: SpokenUtterance, *, keeps_text: bool) -> None:
        """Store the recorded end of an utterance."""
        utterance = record.utterance.id
        self._timeouts.pop(utterance, None)
        pieces = self._texts.pop(utterance, [])
        started_at = self._started_at.pop(utterance, None)
        if self._store is not None:
            beginning = spoken.beginning or "".join(pieces)  # of one whose text never reached a stage
            text = beginning if keeps_text else ""
            self._store.end(record, tuple(spoken.services), text, spoken.accepted_at, started_at)

    def is_kept(self, utterance: str) -> bool:
        """Return whether an announcement that was not audible is spoken after a restart."""
        return self._store is not None and utterance not in self._started_at and self._store.keeps(utterance)

    def next_timeout(self, limit_seconds: float) -> float:
        """Return the seconds until ``due`` returns something, at most the limit."""
        if not self._timeouts:
            return limit_seconds
        return max(0.0, min(limit_seconds, min(at for at, _ in self._timeouts.values()) - _now()))

    def due(self) -> list[Event]:
        """Return the events whose time has come."""
        if self._store is not None:
            self._store.answer_overdue()
        if not self._timeouts and self._load_deadline is None:
            return []
        now = _now()
        keys = [key for key, (at, _) in self._timeouts.items() if at <= now]
        events = [self._timeouts.pop(key)[1] for key in keys]
        if self._load_deadline is not None and self._load_deadline.is_expired:
            if self._store is not None:
                self._store.stop_waiting()
            events += self.release()
        return events

    def permit_start(self, utterance: str) -> Callable[[], None] | None:
        """Store that an utterance starts, as ``UtteranceStore.permit_start``; called by the speaker thread."""
        return None if self._store is None else self._store.permit_start(utterance)

    def close(self, deadline: Deadline) -> None:
        """Write what is left."""
        if self._store is not None:
            self._store.close(deadline)

    def _accept(self, utterance: Utterance) -> None:
        ttl_seconds = utterance.delivery.ttl_seconds
        if utterance.id in self._restored:
            self._restored.discard(utterance.id)
            return
        if utterance.source == TIMER:  # the timer itself is kept
            return
        if utterance.text is None:
            self._texts[utterance.id] = []
        if ttl_seconds is not None:
            self._timeouts[utterance.id] = (_now() + ttl_seconds, Expired(utterance.id, ttl_seconds))
        if self._store is not None:
            self._store.accept(utterance)

    def _announce_restored(self, utterance: Utterance, remaining_seconds: float | None) -> Announce:
        self._restored.add(utterance.id)
        ttl_seconds = utterance.delivery.ttl_seconds
        if remaining_seconds is not None and ttl_seconds is not None:
            self._timeouts[utterance.id] = (_now() + remaining_seconds, Expired(utterance.id, ttl_seconds))
        return Announce(utterance)


def _now() -> float:
    """Return the time in seconds since the start of the machine. A suspend counts: a time to live passes meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

"""Manages announcements from request to recorded end: storage, time to live and restarts."""

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
"""Longest wait for the announcements from before the restart: if the disk hangs, the daemon must still speak."""
WORD_SECONDS = 1.0
"""How long an utterance that the user interrupted waits for a recognized word before it continues."""
_LISTEN, _WORD = "", " "
"""Keys of ``_timeouts`` that are not ids: the wait for the user's speech, and the wait for a word."""


class Announcements:
    """Decides when events about announcements are handled, and stores the changes of announcements.

    Not thread-safe; owned by the main thread.

    Args:
        store: Stores the announcements; with ``None`` a restart loses them.
        load_seconds: Longest wait for the announcements from before the restart.
    """

    def __init__(self, store: UtteranceStore | None, *, load_seconds: float = LOAD_SECONDS) -> None:
        self._store, self._load_seconds = store, load_seconds
        self._load_deadline: Deadline | None = None  # while the store reads its file
        self._held: list[Event] = []
        self._restored: set[str] = set()
        self._texts: dict[str, list[str]] = {}  # by announcement whose text arrives in pieces
        self._started_at: dict[str, float] = {}
        self._timeouts: dict[str, tuple[float, Event]] = {}

    def start(self, report: Callable[[Event], None]) -> None:
        """Start to read the announcements from before the restart. ``report`` receives them as ``Restored``."""
        if self._store is not None and self._store.start(report):
            self._load_deadline = Deadline(self._load_seconds)

    def admit(self, event: Event) -> list[Event]:
        """Return the events to handle now, in order.

        Events about new announcements are held until the announcements from before the restart are read.
        """
        if isinstance(event, Restored):
            # In the order of the queue, because the first announcement is spoken immediately.
            restored = sorted(event.utterances, key=lambda each: queue_order(each.utterance))
            return [event, *itertools.starmap(self._announce_restored, restored), *self.release()]
        if self._load_deadline is not None and isinstance(event, Announce | TextPiece | TextComplete | Cancel | Hush):
            self._held.append(event)
            return []
        return [event]

    def release(self) -> list[Event]:
        """Return the held events. Later events are not held."""
        self._load_deadline = None
        held, self._held = self._held, []
        return held

    def note(self, event: Event) -> None:
        """Record an event before the conversation handles it."""
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
            beginning = spoken.beginning or "".join(pieces)  # for a text that never reached a stage
            text = beginning if keeps_text else ""
            self._store.end(record, tuple(spoken.services), text, spoken.accepted_at, started_at)

    def is_kept(self, utterance: str) -> bool:
        """Return whether an announcement was not audible yet and is stored, so that it is spoken after a restart."""
        return self._store is not None and utterance not in self._started_at and self._store.is_durable(utterance)

    def next_timeout(self, limit_seconds: float) -> float:
        """Return the seconds until the next timeout, at most the limit."""
        if not self._timeouts:
            return limit_seconds
        return max(0.0, min(limit_seconds, min(at for at, _ in self._timeouts.values()) - _now()))

    def due(self) -> list[Event]:
        """Return the events of the timeouts that have expired."""
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

    def record_start(self, utterance: str) -> Callable[[], None] | None:
        """As ``UtteranceStore.record_start``; ``None`` without a store. Called by the speaker thread."""
        return None if self._store is None else self._store.record_start(utterance)

    def close(self, deadline: Deadline) -> None:
        """Write the pending changes of the store."""
        if self._store is not None:
            self._store.close(deadline)

    def _accept(self, utterance: Utterance) -> None:
        ttl_seconds = utterance.delivery.ttl_seconds
        if utterance.id in self._restored:
            self._restored.discard(utterance.id)
            return
        if utterance.source == TIMER:  # the timer itself is stored
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
    """Return the seconds since the start of the machine, including suspends, in which a time to live also passes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

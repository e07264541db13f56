"""Collects the announcements that have not ended, from the notifications of the daemon."""

from __future__ import annotations

import threading

from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, PlaybackStarted
from agent.pipeline.utterance import Urgency, Utterance

MAX_TEXT_CHARACTERS = 200


class WaitingList:
    """The announcements that have not ended, in the order in which they were accepted. Thread-safe.

    The list is bounded, because the queue of the daemon is bounded: an announcement above that limit ends immediately.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._utterances: dict[str, Utterance] = {}
        self._started: str | None = None

    def update(self, notification: Notification) -> None:
        """Process a notification. Called by the main thread."""
        match notification:
            case Announce(utterance):
                with self._lock:
                    self._utterances[utterance.id] = utterance
            case Record(utterance):
                with self._lock:
                    self._utterances.pop(utterance.id, None)
            case PlaybackStarted(utterance):
                self._started = utterance

    def utterances(self, with_texts: bool) -> list[dict[str, object]]:
        """Return the announcements: first the current one, then the others, sorted by urgency and rank."""
        with self._lock:
            waiting = list(self._utterances.values())
        waiting.sort(key=lambda each: (each.id != self._started, each.urgency is not Urgency.IMPORTANT, -each.priority))
        return [
            {
                "id": each.id,
                "state": "started" if each.id == self._started else "waiting",
                "urgency": each.urgency.value,
                "priority": each.priority,
                "source": each.source,
                **({"text": (each.text or "")[:MAX_TEXT_CHARACTERS]} if with_texts else {}),
            }
            for each in waiting
        ]

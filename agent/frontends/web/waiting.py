"""The announcements that are spoken or wait, collected from the events of the daemon."""

from __future__ import annotations

import threading

from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, PlaybackStarted
from agent.pipeline.utterance import Urgency, Utterance

MAX_TEXT_CHARACTERS = 200


class WaitingList:
    """The announcements that have not ended, in the order in which they were accepted. Thread-safe.

    It is bounded, because the daemon bounds its queue: each announcement above the limit ends immediately.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._utterances: dict[str, Utterance] = {}
        self._started: str | None = None

    def update(self, notification: Notification) -> None:
        """Take a notification, in the main thread."""
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
        """Return the announcements: the one that is spoken first, then by urgency and rank."""
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

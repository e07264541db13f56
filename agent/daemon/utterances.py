"""Tracks the utterances from their start to their recorded end, for the log and the status."""

from __future__ import annotations

import time

from agent.daemon.utterance_store import MAX_KEPT_CHARACTERS
from agent.pipeline.actions import Action, AppendText, Record, ResumeUtterance, StartUtterance
from agent.pipeline.events import AudioArrived, Event
from agent.pipeline.status import CurrentUtterance
from agent.pipeline.utterance import Utterance

EXCERPT_CHARACTERS = 60


class SpokenUtterance:
    """An utterance, the beginning of its text and the services that speak it.

    Not thread-safe; owned by the main thread.

    Attributes:
        utterance: The utterance.
        services: The names of the services.
        accepted_at: When this object was created, in seconds since 1970. That is when a reply was accepted; an
            announcement may have been accepted earlier.
        beginning: At most the first ``MAX_KEPT_CHARACTERS`` of the text.
    """

    def __init__(self, utterance: Utterance) -> None:
        self.utterance = utterance
        self.services: list[str] = []
        self.accepted_at = time.time()
        self.beginning = ""
        self.append(utterance.text or "")

    def append(self, text: str) -> None:
        self.beginning += text[: MAX_KEPT_CHARACTERS - len(self.beginning)]

    @property
    def excerpt(self) -> str:
        """The first words of the text, with ``...`` if more words follow."""
        words = " ".join(self.beginning.split())
        if len(words) <= EXCERPT_CHARACTERS:
            return words
        beginning = words[:EXCERPT_CHARACTERS]
        return f"{beginning.rpartition(' ')[0] or beginning} ..."


class UtteranceTracker:
    """Tracks the started utterances that have not ended. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self._open: dict[str, SpokenUtterance] = {}

    def update(self, event: Event) -> None:
        """Record which service delivers the audio of an utterance."""
        if not isinstance(event, AudioArrived):
            return
        spoken = self._open.get(event.utterance)
        if spoken is not None and event.service not in spoken.services:
            spoken.services.append(event.service)

    def record_action(self, action: Action) -> None:
        """Record the start, the continuation and the text of an utterance."""
        if isinstance(action, StartUtterance):
            self._open[action.utterance.id] = SpokenUtterance(action.utterance)
        elif isinstance(action, ResumeUtterance) and (spoken := self._open.pop(action.utterance.id, None)) is not None:
            self._open[action.utterance.id] = spoken  # now the last one again, for ``saying``
        elif isinstance(action, AppendText) and (spoken := self._open.get(action.utterance)) is not None:
            spoken.append(action.text)

    def end(self, record: Record) -> SpokenUtterance:
        """Remove and return an utterance. If it was never started, the result has no services."""
        return self._open.pop(record.utterance.id, None) or SpokenUtterance(record.utterance)

    @property
    def saying(self) -> CurrentUtterance | None:
        """Of the utterances that have not ended, the one that started or continued last."""
        if not self._open:
            return None
        spoken = list(self._open.values())[-1]
        utterance = spoken.utterance
        return CurrentUtterance(utterance.id, spoken.excerpt, utterance.priority, utterance.source)

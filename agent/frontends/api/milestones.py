"""Chooses the events that start a hook and that Home Assistant shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.frontends.api.described import Description, describe
from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import Reply, TextPiece
from agent.system.named_tuple import NamedTuple

WAKE, HEARD, SPOKEN, FAILED, STATE, DEVICE = "wake", "heard", "spoken", "failed", "state", "device"
BUTTON, TIMER = "button", "timer"
MAX_TEXT_CHARACTERS = 10_000
MAX_TEXTS = 16
"""Maximum number of texts in pieces that are kept until their utterance ends; then the oldest is dropped."""

_ENDS = {"played": SPOKEN, "failed": FAILED, "expired": FAILED, "interrupted": FAILED}


class Milestone(NamedTuple):
    """One event. Immutable. ``name``: one of the constants of this module. ``fields``: as in the events of the API."""

    name: str
    fields: Mapping[str, object]


class Milestones:
    """Converts notifications of the daemon into milestones. Not thread-safe; owned by the main thread.

    Args:
        texts: Whether the fields contain transcripts and the texts of utterances.
    """

    def __init__(self, *, texts: bool) -> None:
        self._with_texts = texts
        self._state: object = None
        self._texts: dict[int | str, str] = {}

    def update(self, notification: Notification) -> Iterator[Milestone]:
        """Process a notification and yield its milestones. Most notifications yield none."""
        text = self._take_text(notification) if self._with_texts else None
        for description in describe(notification):
            if (name := self._name(description)) is not None:
                fields = description.params(texts=self._with_texts)
                yield Milestone(name, fields if text is None else {**fields, "text": text})

    def _name(self, description: Description) -> str | None:
        fields = description.fields
        match description.name:
            case "state":
                previous, self._state = self._state, fields["state"]
                return STATE if self._state != previous else None
            case "utterance":
                return _ENDS.get(str(fields["state"]))
            case "heard":
                return HEARD if fields["words"] else None
            case "device" | "wake" | "button" | "timer":
                return description.name
        return None

    def _take_text(self, notification: Notification) -> str | None:
        """Collect the pieces of a text; return the whole text at the end of its utterance."""
        match notification:
            case Reply(turn, text):
                self._append(turn, f"{text} ")
            case TextPiece(utterance, text):
                self._append(utterance, text)
            case Record(utterance):
                pieces = self._texts.pop(utterance.turn or utterance.id, "")
                return pieces.strip() if utterance.text is None else utterance.text
        return None

    def _append(self, key: int | str, piece: str) -> None:
        self._texts[key] = (self._texts.get(key, "") + piece)[:MAX_TEXT_CHARACTERS]
        if len(self._texts) > MAX_TEXTS:
            del self._texts[next(iter(self._texts))]

"""How long a lost speaker is waited for by what is to be said."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.daemon import event_log as journal
from agent.daemon.builder import Parts
from agent.pipeline.conversation import (
    Action,
    AppendText,
    Ask,
    CancelReply,
    Finish,
    Listen,
    Record,
    StartUtterance,
    StopPlayback,
)
from agent.pipeline.events import DeviceBack, DeviceLost, DeviceTimedOut, Event, UtteranceCancelled
from agent.system.threads import Deadline

WAITED_SECONDS = 30.0
"""Longer than a card that fell off the bus, or a sound server, needs to come back."""


class DeviceTimeout:
    """``look`` gives a ``DeviceAway`` when an utterance has waited for the speaker for long enough: since the speaker
    was lost, or since the utterance began, whichever is later (``begin``)."""

    def __init__(self, waited_seconds: float = WAITED_SECONDS) -> None:
        self._waited_seconds = waited_seconds
        self._lost_at: float | None = None
        self._deadline = Deadline(None)

    def note(self, event: Event) -> None:
        match event:
            case DeviceLost("speaker"):
                self._lost_at = time.monotonic()
                self.begin()
            case DeviceBack("speaker"):
                self._lost_at = None

    def begin(self) -> None:
        self._deadline = Deadline(self._waited_seconds)

    def look(self) -> DeviceTimedOut | None:
        if self._lost_at is None or not self._deadline.is_expired:
            return None
        self.begin()
        return DeviceTimedOut("speaker", time.monotonic() - self._lost_at)


def reset_after_suspend(parts: Parts, by: str) -> None:
    """Nothing from before ``by`` is said or sent any more, and no connection of then is trusted. From any thread."""
    if parts.microphone is not None:
        parts.microphone.reset_after_suspend(by)
    if parts.recognizer is not None:
        parts.recognizer.reset_after_suspend(by)
    if parts.synthesizer is not None:
        parts.synthesizer.hush(by, reconnect=True)


def do(
    action: Action, parts: Parts, absence: DeviceTimeout, report: Callable[[Event], None], *, transcripts: bool = False
) -> None:
    """A ``Record`` is nothing that a part could do: it means nothing here. ``transcripts``: what is said is written
    into the log."""
    match action:
        case Ask(turn, text):
            assert parts.responder is not None
            parts.responder.ask(turn, text)
        case CancelReply(turn):
            assert parts.responder is not None
            parts.responder.cancel(turn)
        case StartUtterance(utterance):
            absence.begin()
            if parts.synthesizer is None:
                report(UtteranceCancelled(utterance.id, "the mode, which only listens"))
            else:
                parts.synthesizer.begin(utterance)
                if transcripts and utterance.text is not None:
                    journal.log_text(utterance.id, utterance.text)
        case AppendText(utterance, text):
            if parts.synthesizer is not None:
                parts.synthesizer.append_text(utterance, text)
                if transcripts:
                    journal.log_text(utterance, text)
        case Finish(utterance):
            if parts.synthesizer is not None:
                parts.synthesizer.complete(utterance)
        case StopPlayback(by):
            if parts.synthesizer is not None:
                parts.synthesizer.hush(by)
        case Listen(open):
            if parts.recognizer is not None:
                parts.recognizer.set_listening(open)
        case Record():
            return

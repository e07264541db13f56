"""Passes the conversation's actions to the stages, and times out an utterance that waits for a lost speaker."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.daemon.event_log import log_text
from agent.daemon.stages import Pipeline
from agent.pipeline.actions import (
    Action,
    AppendText,
    Ask,
    CancelReply,
    CorrectReply,
    DiscardUtterance,
    Duck,
    Finish,
    Listen,
    OpenGate,
    PlayFillerSound,
    PlayWakeSound,
    Prepare,
    ReportPlayedText,
    ResumeUtterance,
    StartUtterance,
    StopPlayback,
    SuspendUtterance,
)
from agent.pipeline.events import DeviceBack, DeviceLost, DeviceTimedOut, Event, UtteranceCancelled
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

SPEAKER_TIMEOUT_SECONDS = 30.0
"""Default timeout: longer than a sound card takes to reconnect or a sound server to restart."""


class DeviceTimeout:
    """Limits the time that an utterance waits for a lost speaker. Not thread-safe; owned by the main thread.

    The timeout starts when the speaker is lost or when the utterance starts, whichever is later.
    """

    def __init__(self, seconds: float = SPEAKER_TIMEOUT_SECONDS) -> None:
        self._seconds = seconds
        self._lost_at: float | None = None
        self._deadline = Deadline(None)

    def update(self, event: Event) -> None:
        match event:
            case DeviceLost("speaker"):
                self._lost_at = time.monotonic()
                self.restart()
            case DeviceBack("speaker"):
                self._lost_at = None

    def restart(self) -> None:
        """Restart the timeout for a new utterance."""
        self._deadline = Deadline(self._seconds)

    def check(self) -> DeviceTimedOut | None:
        """If the timeout has expired, restart it and return the event; otherwise return ``None``."""
        if self._lost_at is None or not self._deadline.is_expired:
            return None
        self.restart()
        return DeviceTimedOut("speaker", time.monotonic() - self._lost_at)


def reset_after_suspend(pipeline: Pipeline, reason: str) -> None:
    """Drop all audio and text from before a suspend, and replace the connections. Thread-safe."""
    if pipeline.microphone is not None:
        pipeline.microphone.reset_after_suspend(reason)
    if pipeline.recognizer is not None:
        pipeline.recognizer.reset_after_suspend(reason)
    if pipeline.synthesizer is not None:
        pipeline.synthesizer.cancel_all(reason, reconnect=True)


def dispatch(
    action: Action,
    pipeline: Pipeline,
    device_timeout: DeviceTimeout,
    report: Callable[[Event], None],
    *,
    transcripts: bool = False,
) -> None:
    """Carry out an action, in the main thread. A ``Record`` needs no stage and is ignored.

    Args:
        action: An action of the conversation.
        pipeline: The stages.
        device_timeout: Restarted by each new utterance.
        report: Receives the end of an utterance that no stage can speak.
        transcripts: Whether to log the text.
    """
    synthesizer, speaker = pipeline.synthesizer, pipeline.speaker
    recognizer, responder = pipeline.recognizer, pipeline.responder
    match action:
        case Ask(turn, text):
            assert responder is not None
            responder.ask(turn, text)
        case Prepare(turn, text):
            assert responder is not None
            responder.prepare(turn, text)
        case CancelReply(turn):
            assert responder is not None
            responder.cancel(turn)
        case StartUtterance(utterance):
            device_timeout.restart()
            if synthesizer is None:
                report(UtteranceCancelled(utterance.id, "the mode, which does not speak"))
            else:
                synthesizer.begin(utterance)
                if transcripts and utterance.text is not None:
                    log_text(utterance.id, utterance.text)
        case AppendText(utterance, text) if synthesizer is not None:
            synthesizer.append_text(utterance, text)
            if transcripts:
                log_text(utterance, text)
        case Finish(utterance) if synthesizer is not None:
            synthesizer.complete(utterance)
        case StopPlayback(reason) if synthesizer is not None:
            synthesizer.cancel_all(reason)
        case SuspendUtterance(utterance, reason) if synthesizer is not None:
            synthesizer.suspend(utterance, reason)
        case ResumeUtterance(Utterance(id=utterance), played_seconds):
            device_timeout.restart()
            if synthesizer is not None:
                synthesizer.resume(utterance, played_seconds)
        case DiscardUtterance(utterance) if synthesizer is not None:
            synthesizer.discard(utterance)
        case ReportPlayedText(utterance, played_seconds) if synthesizer is not None:
            synthesizer.report_played_text(utterance, played_seconds)
        case CorrectReply(turn, text) if responder is not None:
            responder.correct(turn, text)
        case Duck(is_active) if speaker is not None:
            speaker.is_ducked = is_active
        case Listen(open) if recognizer is not None:
            recognizer.set_listening(open)
        case PlayWakeSound() if synthesizer is not None:
            synthesizer.play_wake_sound()
        case PlayFillerSound() if synthesizer is not None:
            synthesizer.play_filler_sound()
        case OpenGate(seconds) if recognizer is not None:
            recognizer.open_gate(seconds)

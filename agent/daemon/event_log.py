"""Logs events: activity, and every loss or degradation."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from agent.errors import ConfigError, DeviceError
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    DeviceBack,
    DeviceLost,
    EchoChanged,
    Event,
    Gap,
    Heard,
    NearMiss,
    ReplyEnded,
    ServiceDown,
    ServiceUp,
    StopWord,
    TimersChanged,
    TimersRestored,
    Underruns,
    WakeYielded,
    Woken,
    WorkerCrashed,
)
from agent.system.text import escape

log = logging.getLogger(__name__)


def log_event(event: Event, *, transcripts: bool) -> None:
    """Log an event. The text of a transcript is logged only if ``transcripts`` is true."""
    match event:
        case Woken(word):
            log.info("wake word: %s", word, extra={"component": "recognizer"})
        case NearMiss(word, score):
            log.debug("wake word: near miss, word=%s, score=%.2f", word, score, extra={"component": "recognizer"})
        case EchoChanged(mode, reason, delay, drift, loss):
            log.info(
                "echo: %s may interrupt, reason=%s, delay_seconds=%s, drift_ppm=%s, return_loss_db=%s",
                "nothing" if mode == "half-duplex" else mode,
                reason or "none",
                *("unknown" if value is None else f"{value:.3g}" for value in (delay, drift, loss)),
            )
        case WakeYielded(device):
            log.info("wake word: yielded, device=%s heard it louder", escape(device, 100))
        case StopWord(word):
            log.info("stop word: %s", word, extra={"component": "recognizer"})
        case TimersChanged(_, changes):
            for timer, change in changes:
                log.info("timer: %s, timer=%d", change.value, timer.number)
        case TimersRestored(timers):
            log.info("timers: from before the restart, count=%d", len(timers))
        case Heard(text) if text:
            words = escape(text, 500) if transcripts else f"{len(text.split())} words"
            log.info("heard: %s", words, extra={"component": "recognizer"})
        case ReplyEnded(_, str(error)):
            log.warning("reply: incomplete, %s", escape(error, 500), extra={"component": "responder"})
        case Gap(start, seconds, reason):
            fields = {"component": "recognizer"}
            log.warning("gap: %.2f s of captured audio lost at %.1f s, %s", seconds, start, reason, extra=fields)
        case ServiceDown(service, reason, permanent):
            log.log(logging.ERROR if permanent else logging.WARNING, "%s", reason, extra={"component": service})
        case ServiceUp(service, attempts):
            log.info("%s: available again, attempts=%d", service, attempts)
        case DeviceLost(device, reason):
            log.warning("no %s: %s", device, reason, extra={"component": device})
        case DeviceBack(device, seconds):
            log.info("%s: back after %.1f s", device, seconds)
        case Underruns(_, count, silence):
            log.warning("speaker: %d playback underruns, %.2f s of silence inserted", count, silence)


def log_record(record: Record, services: Sequence[str] = (), text: str | None = None) -> None:
    """Log the recorded end of an utterance.

    Args:
        record: The recorded end.
        services: The services that spoke.
        text: The first words of the utterance; ``None`` if the log may not contain them.
    """
    utterance = record.utterance
    log.log(
        logging.WARNING if record.state == "failed" else logging.INFO,
        "%s: %s%s%s, %.1f s%s, priority=%d%s",
        utterance.id,
        record.state,
        f" by {', '.join(services)}" if services and record.state == "played" else "",
        f" ({escape(record.reason, 300)})" if record.reason else "",
        record.seconds,
        f", {record.dropped_seconds:.2f} s of audio dropped" if record.dropped_seconds else "",
        utterance.priority,
        f', text="{escape(text, 200)}"' if text else "",
        extra={
            "component": "conversation",
            "turn": utterance.turn,
            "utterance": utterance.id,
            "service": ", ".join(services) or None,
        },
    )


def log_text(utterance: str, text: str) -> None:
    """Log text that goes to the synthesizer. Call it only if ``logging.transcripts`` is on."""
    if text.strip():
        fields = {"component": "conversation", "utterance": utterance}
        log.info("%s: says %s", utterance, escape(text.strip(), 500), extra=fields)


def log_reload(changed: Sequence[str], pending: Sequence[str]) -> None:
    """Log the keys that a reload changed, and the keys that need a restart."""
    if changed or not pending:
        log.info("configuration: reloaded, changed=%s", ", ".join(changed) or "nothing")
    if pending:
        log.warning("configuration: restart the daemon to apply %s", ", ".join(pending))


def log_worker_crash(event: WorkerCrashed) -> int:
    """Log the reason of a crash and return the exit code for it."""
    if isinstance(event.error, DeviceError | ConfigError):  # a restart does not help
        log.error("%s", escape(str(event.error), 500), extra={"component": event.worker})
        return event.error.exit_code
    log.error("%s: crashed, %s", event.worker, "".join(traceback.format_exception(event.error)))
    return 70

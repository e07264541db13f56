"""Log lines for events: activity, and every loss or degradation."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from agent.errors import ConfigError, DeviceError
from agent.pipeline.conversation import Record
from agent.pipeline.events import (
    DeviceBack,
    DeviceLost,
    Event,
    Gap,
    Heard,
    ReplyEnded,
    ServiceDown,
    ServiceUp,
    UtterancePlayed,
    WorkerCrashed,
)
from agent.system.text import escape

log = logging.getLogger(__name__)


def log_event(event: Event, *, transcripts: bool) -> None:
    """Log an event in at most one line; the text of transcripts only with ``transcripts``."""
    match event:
        case Heard(text) if text:
            log.info("heard: %s", escape(text, 500) if transcripts else f"{len(text.split())} words")
        case ReplyEnded(_, str(error)):
            log.warning("reply: incomplete, %s", escape(error, 500))
        case Gap(start, seconds, reason):
            log.warning("gap: %.2f s of captured audio lost at %.1f s, %s", seconds, start, reason)
        case ServiceDown(_, reason, permanent):
            log.log(logging.ERROR if permanent else logging.WARNING, "%s", reason)
        case ServiceUp(service, attempts):
            log.info("%s: available again, attempts=%d", service, attempts)
        case DeviceLost(device, reason):
            log.warning("no %s: %s", device, reason)
        case DeviceBack(device, seconds):
            log.info("%s: back after %.1f s", device, seconds)
        case UtterancePlayed(underruns=underruns, silence_seconds=silence) if underruns:
            log.warning("speaker: %d playback underruns, %.2f s of silence inserted", underruns, silence)


def log_record(record: Record) -> None:
    """Log the recorded end of an utterance."""
    log.log(
        logging.WARNING if record.state == "failed" else logging.INFO,
        "%s: %s%s, %.1f s%s",
        record.utterance.id,
        record.state,
        f" ({escape(record.reason, 300)})" if record.reason else "",
        record.seconds,
        f", {record.dropped_seconds:.2f} s of audio dropped" if record.dropped_seconds else "",
        extra={"turn": record.utterance.turn, "utterance": record.utterance.id},
    )


def log_text(utterance: str, text: str) -> None:
    """Log text that goes to the synthesizer. Called only if the configuration enables ``logging.transcripts``."""
    if text.strip():
        log.info("%s: says %s", utterance, escape(text.strip(), 500), extra={"utterance": utterance})


def log_reload(changed: Sequence[str], pending: Sequence[str]) -> None:
    """Log the keys that a reload changed, and those that wait for a restart."""
    if changed or not pending:
        log.info("configuration: reloaded, changed=%s", ", ".join(changed) or "nothing")
    if pending:
        log.warning("configuration: restart the daemon to apply %s", ", ".join(pending))


def log_worker_crash(event: WorkerCrashed) -> int:
    """Log the reason of a crash and return the exit code for it."""
    if isinstance(event.error, DeviceError | ConfigError):  # neither a wait nor a restart helps
        log.error("%s", escape(str(event.error), 500))
        return event.error.exit_code
    log.error("%s: crashed, %s", event.worker, "".join(traceback.format_exception(event.error)))
    return 70

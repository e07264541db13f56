"""What the log says of an event: what a user would want to know tomorrow, and what was lost."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from agent.errors import DeviceError
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


def write(event: Event, *, transcripts: bool) -> None:
    """At most one line. What was heard stands there only with ``transcripts``."""
    match event:
        case Heard(text) if text:
            log.info("heard: %s", escape(text, 500) if transcripts else f"{len(text.split())} words")
        case ReplyEnded(_, str(error)):
            log.warning("no whole answer: %s", escape(error, 500))
        case Gap(start, seconds, reason):
            log.warning("%.2f s of sound are missing from %.1f s on: %s", seconds, start, reason)
        case ServiceDown(_, reason, permanent):
            log.log(logging.ERROR if permanent else logging.WARNING, "%s", reason)
        case ServiceUp(service, tries):
            log.info("%s is back, after %d tries", service, tries)
        case DeviceLost(which, reason):
            log.warning("no %s: %s", which, reason)
        case DeviceBack(which, seconds):
            log.info("the %s is back after %.1f s", which, seconds)
        case UtterancePlayed(underruns=underruns, silence_seconds=silence) if underruns:
            log.warning("the sound came too late %d times; %.2f s of silence were put in", underruns, silence)


def log_text(utterance: str, text: str) -> None:
    """What is to be said, as it is given to the synthesizer: for whoever has asked for it to be written down."""
    if text.strip():
        log.info("%s: says %s", utterance, escape(text.strip(), 500), extra={"utterance": utterance})


def log_reload(changed: Sequence[str], waiting: Sequence[str]) -> None:
    """What a configuration that was read again has changed, and what of it waits for a restart."""
    if changed or not waiting:
        log.info("read again: %s", ", ".join(changed) or "nothing is different")
    if waiting:
        log.warning("changed only by a restart: %s", ", ".join(waiting))


def log_worker_crash(event: WorkerCrashed) -> int:
    """Says why a worker died; returns the exit code that says so too."""
    if isinstance(event.error, DeviceError):  # one that no waiting mends: a mistake, and no restart mends it either
        log.error("%s", escape(str(event.error), 500))
        return event.error.exit_code
    log.error("the %s died of %s", event.worker, "".join(traceback.format_exception(event.error)))
    return 70

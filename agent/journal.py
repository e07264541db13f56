"""What the log says of an event: what a user would want to know tomorrow, and what was lost."""

from __future__ import annotations

import logging

from agent.events import DeviceBack, DeviceLost, Event, Gap, Heard, ServiceDown, ServiceUp, Spoken
from agent.safe import safe

log = logging.getLogger(__name__)


def write(event: Event, *, transcripts: bool) -> None:
    """At most one line. What was heard stands there only with ``transcripts``."""
    match event:
        case Heard(text) if text:
            log.info("heard: %s", safe(text, 500) if transcripts else f"{len(text.split())} words")
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
        case Spoken(underruns=underruns, silence_seconds=silence) if underruns:
            log.warning("the sound came too late %d times; %.2f s of silence were put in", underruns, silence)

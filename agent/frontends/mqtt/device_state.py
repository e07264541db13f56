"""Builds the retained message with the state of the device, which Home Assistant reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, DeviceLost, PlaybackStarted, ServiceDown, SpeechEnded
from agent.pipeline.status import CONNECTED, FAILED, READY, Status, TimerStatus

MAX_TEXT_CHARACTERS = 200
"""Maximum length of a text in the message. Home Assistant refuses a state of more than 255 characters."""
NO_FAULT = "none"


class PublishedState:
    """Collects the state from the notifications of the daemon. Not thread-safe; owned by the main thread.

    Args:
        fixed: The fields of the message that never change.
        texts: Whether the names of timers are included.
        clock: Returns the monotonic time in seconds.
    """

    def __init__(
        self, fixed: Mapping[str, object], *, texts: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._with_texts = clock, texts
        self._values: dict[str, object] = {
            **fixed,
            "first_audio_seconds": None,
            "last_fault": NO_FAULT,
        }
        self._status: Status | None = None
        self._asked_at: float | None = None
        self._published: bytes | None = None

    def update(self, notification: Notification) -> bytes | None:
        """Process a notification. Returns the new message; ``None`` if the message has not changed."""
        match notification:
            case Status():
                self._status = notification
                self._values |= _values(notification, with_texts=self._with_texts)
            case SpeechEnded(silence_seconds):
                self._asked_at = self._clock() - silence_seconds
                return None
            case Announce():
                # Behind another text, first_audio_seconds would measure the queue and not the speed of the services.
                if self._status is None or self._status.saying is None:
                    self._asked_at = self._clock()
                return None
            case PlaybackStarted() if self._asked_at is not None:
                self._values["first_audio_seconds"] = round(self._clock() - self._asked_at, 3)
                self._asked_at = None
            case ServiceDown(service, reason):
                self._note_fault(reason if reason.startswith(service) else f"{service}: {reason}")
            case DeviceLost(device, reason):
                self._note_fault(f"{device}: {reason}")
            case Record(state="failed", reason=reason):
                self._asked_at = None
                self._note_fault(f"not spoken: {reason}")
            case _:
                return None
        if self._status is None:
            return None  # the daemon is starting: the first status follows
        message = json.dumps(self._values, ensure_ascii=False).encode("utf-8", "replace")
        if message == self._published:
            return None
        self._published = message
        return message

    def _note_fault(self, text: str) -> None:
        self._values["last_fault"] = text[:MAX_TEXT_CHARACTERS]


def _values(status: Status, *, with_texts: bool) -> dict[str, object]:
    failed = [service.name for service in status.services if service.state == FAILED]
    is_known = any(service.state in (CONNECTED, READY) for service in status.services)
    services = f"failed: {', '.join(failed)}" if failed else READY if is_known else "not used yet"
    return {
        "state": status.visible_state,
        "volume": status.volume,
        "microphone": "OFF" if "microphone" in status.muted else "ON",
        "speaker": "OFF" if "speaker" in status.muted else "ON",
        "voice": status.voice,
        "wake_word": status.wake_word,
        "queue": status.queue,
        "next_timer": next((_moment(each.ends_at) for each in status.timers if each.state == "running"), None),
        "timers": [_timer(each, with_texts=with_texts) for each in status.timers],
        "services": services[:MAX_TEXT_CHARACTERS],
        "troubles": [problem[:MAX_TEXT_CHARACTERS] for problem in status.problems],
    }


def _timer(timer: TimerStatus, *, with_texts: bool) -> dict[str, object]:
    name = {"name": timer.name[:MAX_TEXT_CHARACTERS]} if with_texts and timer.name else {}
    kind = "alarm" if timer.is_alarm else "timer"
    return {"number": timer.number, "kind": kind, **name, "state": timer.state, "ends_at": _moment(timer.ends_at)}


def _moment(seconds: float | None) -> str | None:
    """Convert seconds since 1970 into the format of a Home Assistant timestamp: ISO 8601 with the time zone."""
    return None if seconds is None else datetime.fromtimestamp(round(seconds), UTC).isoformat()

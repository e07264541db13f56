"""Converts the notifications of the daemon into events for other programs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Announce,
    BreakerChanged,
    ButtonPressed,
    DeviceBack,
    DeviceLost,
    Heard,
    MicrophoneMute,
    Mute,
    NearMiss,
    Partial,
    PlaybackStarted,
    Reply,
    ReplyEnded,
    ServiceConnected,
    ServiceDown,
    ServiceUp,
    Stored,
    TimersChanged,
    Underruns,
    Woken,
)
from agent.pipeline.status import Status, timer_status
from agent.pipeline.utterance import Utterance
from agent.system.named_tuple import NamedTuple

EVENTS = {
    "state": "the status changed, such as the state, the problems, the queue, the volume or a service",
    "partial": "a partial transcript",
    "wake": "a wake word was spoken",
    "near_miss": "a sound was similar to a wake word",
    "button": "the button was pressed",
    "timer": "a timer or an alarm was started, changed, cancelled or missed, rings, or has ended",
    "heard": "a final transcript; empty where no words were recognized",
    "reply": "a piece of a reply, or its end",
    "utterance": "an utterance was accepted, stored or started, or has ended",
    "device": "a sound device was lost, muted or is ready again",
    "service": "a service is connected, ready or failed, or its circuit breaker changed",
    "underrun": "the speaker played silence because audio arrived too late",
}
"""The events that a program may subscribe to, with one line about each."""


class Description(NamedTuple):
    """One event for other programs. Immutable.

    Args:
        name: One of ``EVENTS``.
        fields: The fields that every subscriber receives.
        texts: The fields that only a subscriber with access to texts receives.
    """

    name: str
    fields: Mapping[str, object]
    texts: Mapping[str, object] = {}

    def params(self, *, texts: bool) -> dict[str, object]:
        """Return the parameters of the JSON-RPC notification ``event``, with the current time in seconds since 1970."""
        fields = {"event": self.name, "time": round(time.time(), 3), **self.fields}
        return {**fields, **self.texts} if texts else fields


def describe(notification: Notification) -> Iterator[Description]:
    """Yield the events for other programs that follow from a notification. Most notifications yield none."""
    match notification:
        case Status():
            fields = {
                "state": notification.state,
                "visible_state": notification.visible_state,
                "status": notification.summary,
                "queue": notification.queue,
                "volume": notification.volume,
                "muted": list(notification.muted),
                "troubles": list(notification.problems),
            }
            yield Description("state", fields)
        case Woken(word):
            yield Description("wake", {"word": word})
        case ButtonPressed(press):
            yield Description("button", {"press": press})
        case TimersChanged(_, changes):
            for timer, change in changes:
                fields = {
                    "number": timer.number,
                    "state": change.value,
                    "is_alarm": timer.is_alarm,
                    "seconds": timer.seconds,
                    "ends_at": timer_status(timer).ends_at,
                }
                yield Description("timer", fields, {"name": timer.name})
        case NearMiss(word, score):
            yield Description("near_miss", {"word": word, "score": score})
        case Partial(text):
            yield Description("partial", {}, {"text": text})
        case Heard(text):
            yield Description("heard", {"words": len(text.split())}, {"text": text})
        case Reply(turn, text):
            yield Description("reply", {"turn": turn}, {"text": text})
        case ReplyEnded(turn, error):
            yield Description("reply", {"turn": turn, "ended": True, "error": error})
        case Announce(utterance):
            texts = {} if utterance.text is None else {"text": utterance.text}
            yield Description("utterance", _utterance(utterance, "accepted"), texts)
        case Stored(utterance, durable):
            yield Description("utterance", {"id": utterance, "state": "stored", "durable": durable})
        case PlaybackStarted(utterance):
            yield Description("utterance", {"id": utterance, "state": "started"})
        case Record():
            yield Description("utterance", {**_utterance(notification.utterance, ""), **end_fields(notification)})
        case Underruns(utterance, count, silence):
            fields = {"id": utterance, "underruns": count, "silence_seconds": round(silence, 3)}
            yield Description("underrun", fields)
        case DeviceLost(device, reason):
            yield Description("device", {"device": device, "state": "lost", "reason": reason})
        case DeviceBack(device):
            yield Description("device", {"device": device, "state": "ready", "reason": ""})
        case Mute(muted):
            yield Description("device", _muted("speaker", muted))
        case MicrophoneMute(muted):
            yield Description("device", _muted("microphone", muted))
        case ServiceDown(service, reason):
            yield Description("service", {"service": service, "state": "failed", "reason": reason})
        case ServiceUp(service):
            yield Description("service", {"service": service, "state": "ready", "reason": ""})
        case BreakerChanged(service, state):
            yield Description("service", {"service": service, "breaker": state})
        case ServiceConnected(service):
            yield Description("service", {"service": service, "state": "connected", "reason": ""})


def end_fields(record: Record) -> dict[str, object]:
    """Return the recorded end of an utterance as JSON fields."""
    return {
        "id": record.utterance.id,
        "state": record.state,
        "reason": record.reason,
        "seconds": round(record.seconds, 3),
    }


def _utterance(utterance: Utterance, state: str) -> dict[str, object]:
    return {
        "id": utterance.id,
        "state": state,
        "source": utterance.source,
        "urgency": utterance.urgency.value,
        "priority": utterance.priority,
    }


def _muted(device: str, muted: bool) -> dict[str, object]:
    return {"device": device, "state": "muted" if muted else "ready", "reason": ""}

from __future__ import annotations

import pytest

from agent.frontends.api.described import EVENTS, describe
from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Announce,
    AudioArrived,
    ButtonPressed,
    DeviceBack,
    DeviceLost,
    Heard,
    Hush,
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
    UtterancePlayed,
    Woken,
)
from agent.pipeline.status import Status
from agent.pipeline.timers import Timer, TimerChange, TimerState
from agent.pipeline.utterance import Urgency, Utterance

UTTERANCE = Utterance("a", "hello", priority=3, source="control", urgency=Urgency.IMPORTANT)
WHAT = {"id": "a", "source": "control", "urgency": "important", "priority": 3}


@pytest.mark.parametrize(
    ("notification", "name", "fields"),
    [
        (
            Status("ready", "idle", ("no speaker",), 80, ("speaker",), queue=2),
            "state",
            {
                "state": "idle",
                "visible_state": "idle",
                "status": "ready",
                "queue": 2,
                "volume": 80,
                "muted": ["speaker"],
                "troubles": ["no speaker"],
            },
        ),
        (Woken("alexa"), "wake", {"word": "alexa"}),
        (NearMiss("alexa", 0.6), "near_miss", {"word": "alexa", "score": 0.6}),
        (ButtonPressed("long"), "button", {"press": "long"}),
        (Partial("what time"), "partial", {"text": "what time"}),
        (Heard("what time is it"), "heard", {"words": 4, "text": "what time is it"}),
        (Heard(""), "heard", {"words": 0, "text": ""}),
        (Reply(2, "It is late."), "reply", {"turn": 2, "text": "It is late."}),
        (ReplyEnded(2, "no answer"), "reply", {"turn": 2, "ended": True, "error": "no answer"}),
        (Announce(UTTERANCE), "utterance", {**WHAT, "state": "accepted", "text": "hello"}),
        (Announce(UTTERANCE._replace(text=None)), "utterance", {**WHAT, "state": "accepted"}),
        (Stored("a", True), "utterance", {"id": "a", "state": "stored", "durable": True}),
        (PlaybackStarted("a"), "utterance", {"id": "a", "state": "started"}),
        (
            Record(UTTERANCE, "expired", "after 3 s", 0.12345),
            "utterance",
            {**WHAT, "state": "expired", "reason": "after 3 s", "seconds": 0.123},
        ),
        (
            TimersChanged((), ((Timer(7, "tea", seconds=60.0, ends_at=99.94), TimerChange.RINGING),)),
            "timer",
            {"number": 7, "state": "ringing", "is_alarm": False, "seconds": 60.0, "ends_at": 99.9, "name": "tea"},
        ),
        (
            TimersChanged((), ((Timer(7, seconds=60.0, state=TimerState.PAUSED, ends_at=99.94), TimerChange.CHANGED),)),
            "timer",
            {"number": 7, "state": "changed", "is_alarm": False, "seconds": 60.0, "ends_at": None, "name": ""},
        ),
        (Underruns("a", 2, 0.5), "underrun", {"id": "a", "underruns": 2, "silence_seconds": 0.5}),
        (DeviceLost("speaker", "gone"), "device", {"device": "speaker", "state": "lost", "reason": "gone"}),
        (DeviceBack("speaker", 2.0), "device", {"device": "speaker", "state": "ready", "reason": ""}),
        (Mute(True, "control"), "device", {"device": "speaker", "state": "muted", "reason": ""}),
        (MicrophoneMute(False, "control"), "device", {"device": "microphone", "state": "ready", "reason": ""}),
        (ServiceDown("fish", "refused"), "service", {"service": "fish", "state": "failed", "reason": "refused"}),
        (ServiceUp("fish", 2), "service", {"service": "fish", "state": "ready", "reason": ""}),
        (ServiceConnected("fish"), "service", {"service": "fish", "state": "connected", "reason": ""}),
    ],
)
def test_notification_is_described(notification: Notification, name: str, fields: dict[str, object]) -> None:
    (description,) = describe(notification)
    params = description.params(texts=True)
    assert params.pop("event") == name and name in EVENTS
    assert isinstance(params.pop("time"), float)
    assert params == fields
    assert "text" not in description.params(texts=False)


@pytest.mark.parametrize("notification", [Hush("control"), AudioArrived("a", "fish"), UtterancePlayed("a", 1.0)])
def test_other_events_are_internal(notification: Notification) -> None:
    assert list(describe(notification)) == []

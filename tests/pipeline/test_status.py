from __future__ import annotations

import pytest

from agent.pipeline.events import (
    AudioArrived,
    BreakerChanged,
    DeviceBack,
    DeviceLost,
    Event,
    Heard,
    MicrophoneMute,
    Mute,
    ReplyEnded,
    ServiceConnected,
    ServiceDown,
    ServiceUp,
)
from agent.pipeline.state import State
from agent.pipeline.status import VISIBLE_STATES, CurrentUtterance, DeviceState, ServiceState, StatusTracker

CONNECTED = ServiceConnected("neuphonic")
REFUSED = ServiceDown("neuphonic", "neuphonic: api.example refused the key (HTTP 401): check api_key", True, 401)
UNREACHABLE = ServiceDown("local", "local: 127.0.0.1 port 8394 cannot be reached: Connection refused")


@pytest.mark.parametrize(
    ("mode", "events", "line"),
    [
        ("assistant", [], "listening"),
        ("announce", [], "no speech service has answered yet"),
        ("announce", [CONNECTED], "ready to speak"),
        ("announce", [ServiceConnected("local")], "ready to speak"),
        ("announce", [AudioArrived("u-1", "local")], "ready to speak"),
        ("announce", [ServiceConnected("transcription")], "no speech service has answered yet"),
        ("captions", [], "writing captions"),
        ("assistant", [DeviceLost("microphone", "why")], 'no microphone: waiting for "USB PnP"'),
        ("assistant", [DeviceLost("speaker", "why")], "no speaker: waiting for any; listening"),
        ("assistant", [REFUSED], "neuphonic refused the key; speaking with the local voice"),
        ("announce", [REFUSED], "neuphonic refused the key; speaking with the local voice"),
        ("assistant", [REFUSED, UNREACHABLE], f"neuphonic refused the key; {UNREACHABLE.reason}; no service can speak"),
        ("assistant", [UNREACHABLE], f"{UNREACHABLE.reason}; listening"),
        ("assistant", [ServiceDown("neuphonic", "x", False, 503)],
         "neuphonic is overloaded or under maintenance; speaking with the local voice"),
        ("assistant", [ServiceDown("transcription", "broke off")], "transcription: broke off; listening"),
        ("assistant", [REFUSED, ServiceUp("neuphonic", 3)], "listening"),
        ("assistant", [DeviceLost("microphone", "why"), DeviceBack("microphone", 2.0)], "listening"),
        ("assistant", [MicrophoneMute(True, "control")], "the microphone is muted"),
        ("announce", [CONNECTED, MicrophoneMute(True, "what was set before the restart")], "ready to speak"),
        ("captions", [Mute(True, "what was set before the restart")], "writing captions"),
    ],
)  # fmt: skip
def test_summary_describes_problems_and_activity(mode: str, events: list[Event], line: str) -> None:
    tracker = StatusTracker(mode, ("neuphonic", "local"), microphone="USB PnP")
    for event in events:
        tracker.update(event)
    assert tracker.summary(State.IDLE) == line


def test_summary_appends_the_state_to_the_problems() -> None:
    tracker = StatusTracker("assistant", ("neuphonic", "local"))
    tracker.update(REFUSED)
    assert tracker.summary(State.THINKING) == "neuphonic refused the key; speaking with the local voice; thinking"
    tracker.update(DeviceLost("microphone", "why"))
    status = tracker.status(State.SPEAKING, 70)
    assert status.problems == ("no microphone: waiting for any", "neuphonic refused the key")
    assert (status.state, status.volume) == ("speaking", 70)


def test_reload_clears_problems_and_a_failed_reload_adds_one() -> None:
    tracker = StatusTracker("announce", ("neuphonic", "local"))
    tracker.update(REFUSED)
    tracker.reload_failed("config.yaml:3: speaker: unknown key")
    assert "the new configuration is not used: config.yaml:3: speaker: unknown key" in tracker.summary(State.IDLE)
    assert "neuphonic refused the key" in tracker.summary(State.IDLE)
    tracker.reloaded(("fish", "local"))
    assert tracker.summary(State.IDLE) == "no speech service has answered yet"
    tracker.update(ServiceDown("fish", "x", True, 403, config_generation=tracker.config_generation))
    assert tracker.summary(State.IDLE) == "fish refused the key; speaking with the local voice"


def test_events_of_a_replaced_service_are_ignored() -> None:
    tracker = StatusTracker("announce", ("neuphonic", "local"))
    tracker.reloaded(("neuphonic", "local"))
    tracker.update(CONNECTED)  # the old service's
    tracker.update(REFUSED)  # the old service's
    assert tracker.summary(State.IDLE) == "no speech service has answered yet"
    tracker.update(REFUSED._replace(config_generation=1))
    assert "refused the key" in tracker.summary(State.IDLE)
    tracker.update(ServiceUp("neuphonic", 1))  # the old service's again
    assert "refused the key" in tracker.summary(State.IDLE)
    tracker.update(ServiceUp("neuphonic", 1, config_generation=1))
    assert tracker.summary(State.IDLE) == "ready to speak"


def test_reload_without_replacement_keeps_problems() -> None:
    tracker = StatusTracker("captions")
    tracker.update(ServiceDown("transcription", "broke off"))
    tracker.reloaded((), replaced=False)
    assert tracker.summary(State.IDLE) == "transcription: broke off; writing captions"
    tracker.update(ServiceUp("transcription", 1))
    assert tracker.summary(State.IDLE) == "writing captions"


def test_status_has_the_state_of_each_service() -> None:
    tracker = StatusTracker("assistant", ("neuphonic", "local"), responder="openai")
    tracker.update(CONNECTED)
    assert tracker.status(State.IDLE, 70).services == (
        ServiceState("neuphonic", "speech", "connected", breaker="closed"),
        ServiceState("local", "speech", "unknown", breaker="closed"),
        ServiceState("transcription", "transcription", "unknown", breaker="closed"),
        ServiceState("openai", "reply", "unknown"),
    )
    for event in (REFUSED, AudioArrived("u-1", "local"), Heard("hello"), ReplyEnded(1, "no answer")):
        tracker.update(event)
    assert tracker.status(State.IDLE, 70).services == (
        ServiceState("neuphonic", "speech", "failed", "refused the key", breaker="closed"),
        ServiceState("local", "speech", "ready", breaker="closed"),
        ServiceState("transcription", "transcription", "ready", breaker="closed"),
        ServiceState("openai", "reply", "failed", "no answer"),
    )
    tracker.update(ServiceUp("neuphonic", 2))
    tracker.update(ReplyEnded(2))
    assert {service.state for service in tracker.status(State.IDLE, 70).services} == {"ready"}


def test_status_has_the_circuit_breaker_of_each_service_until_it_is_replaced() -> None:
    tracker = StatusTracker("announce", ("neuphonic", "local"))
    tracker.update(BreakerChanged("neuphonic", "open"))
    assert [service.breaker for service in tracker.status(State.IDLE, 70).services] == ["open", "closed"]
    tracker.reloaded(("neuphonic", "local"))
    tracker.update(BreakerChanged("neuphonic", "half-open"))  # the old service's
    assert [service.breaker for service in tracker.status(State.IDLE, 70).services] == ["closed", "closed"]


def test_a_phrase_from_the_disk_does_not_make_a_service_ready() -> None:
    tracker = StatusTracker("announce", ("neuphonic",))
    tracker.update(REFUSED)
    tracker.update(AudioArrived("u-1", "neuphonic", is_phrase=True))
    assert tracker.status(State.IDLE, 70).services[0].state == "failed"


def test_status_has_the_state_of_each_device() -> None:
    tracker = StatusTracker("assistant", ("local",), "USB PnP", "default")
    tracker.update(DeviceLost("microphone", "it was unplugged"))
    tracker.update(Mute(True, "control"))
    assert tracker.status(State.IDLE, 70).devices == (
        DeviceState("microphone", "USB PnP", "lost", "it was unplugged"),
        DeviceState("speaker", "default", "muted"),
    )
    assert [device.name for device in StatusTracker("announce").status(State.IDLE, 70).devices] == ["speaker"]
    assert [device.name for device in StatusTracker("captions").status(State.IDLE, None).devices] == ["microphone"]


def test_status_has_the_utterance_and_the_queue() -> None:
    saying = CurrentUtterance("u-1", "Hello", 5, "control")
    status = StatusTracker("announce", ("local",)).status(State.SPEAKING, 70, saying, 3)
    assert (status.saying, status.queue, status.mode) == (saying, 3, "announce")


@pytest.mark.parametrize(
    ("mode", "events", "can_speak", "can_listen"),
    [
        ("assistant", [], True, True),
        ("announce", [], True, None),
        ("captions", [], None, True),
        ("assistant", [REFUSED], True, True),
        ("assistant", [REFUSED, UNREACHABLE], False, True),
        ("assistant", [DeviceLost("speaker", "why")], False, True),
        ("assistant", [DeviceLost("microphone", "why")], True, False),
        ("captions", [ServiceDown("transcription", "broke off")], None, False),
        ("assistant", [Mute(True, "control"), MicrophoneMute(True, "control")], True, True),
        ("announce", [REFUSED, UNREACHABLE, ServiceUp("local", 1)], True, None),
    ],
)
def test_status_says_whether_the_daemon_can_speak_and_listen(
    mode: str, events: list[Event], can_speak: bool | None, can_listen: bool | None
) -> None:
    tracker = StatusTracker(mode, ("neuphonic", "local"))
    for event in events:
        tracker.update(event)
    status = tracker.status(State.IDLE, 70)
    assert (status.can_speak, status.can_listen) == (can_speak, can_listen)


MICROPHONE_MUTED, SPEAKER_MUTED = MicrophoneMute(True, "control"), Mute(True, "control")
NO_MICROPHONE = DeviceLost("microphone", "why")


@pytest.mark.parametrize(
    ("mode", "state", "events", "visible"),
    [
        ("assistant", State.IDLE, [], "idle"),
        ("assistant", State.LISTENING, [], "listening"),
        ("assistant", State.THINKING, [], "thinking"),
        ("assistant", State.SPEAKING, [MICROPHONE_MUTED, NO_MICROPHONE], "speaking"),
        ("assistant", State.IDLE, [MICROPHONE_MUTED], "muted"),
        ("assistant", State.IDLE, [MICROPHONE_MUTED, REFUSED, UNREACHABLE], "muted"),
        ("assistant", State.IDLE, [SPEAKER_MUTED], "idle"),
        ("announce", State.IDLE, [SPEAKER_MUTED], "muted"),
        ("captions", State.IDLE, [MICROPHONE_MUTED], "muted"),
        ("assistant", State.IDLE, [REFUSED], "idle"),
        ("assistant", State.IDLE, [REFUSED, UNREACHABLE], "error"),
        ("assistant", State.IDLE, [NO_MICROPHONE], "error"),
        ("announce", State.IDLE, [NO_MICROPHONE], "idle"),
        ("announce", State.IDLE, [DeviceLost("speaker", "why")], "error"),
        ("captions", State.IDLE, [ServiceDown("transcription", "broke off")], "error"),
        ("assistant", State.IDLE, [NO_MICROPHONE, DeviceBack("microphone", 2.0)], "idle"),
    ],
)
def test_visible_state_is_the_conversation_then_the_mute_then_an_error(
    mode: str, state: State, events: list[Event], visible: str
) -> None:
    tracker = StatusTracker(mode, ("neuphonic", "local"))
    for event in events:
        tracker.update(event)
    status = tracker.status(state, 70)
    assert status.visible_state == visible
    assert visible in VISIBLE_STATES


def test_a_reload_keeps_the_state_of_the_wake_word_service() -> None:
    tracker = StatusTracker("assistant", ("neuphonic",))
    tracker.update(ServiceDown("wake", "wake: refused"))
    tracker.reloaded(("neuphonic",))
    assert tracker.status(State.IDLE, 70).problems == ("wake: refused",)
    tracker.update(ServiceUp("wake", 1))
    assert tracker.status(State.IDLE, 70).problems == ()

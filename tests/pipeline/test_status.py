from __future__ import annotations

import pytest

from agent.pipeline.conversation import State
from agent.pipeline.events import DeviceBack, DeviceLost, Event, MicrophoneMute, Mute, ServiceDown, ServiceUp
from agent.pipeline.status import StatusTracker, of_reading

REFUSED = ServiceDown("neuphonic", "neuphonic: api.example refused the key (HTTP 401): check api_key", True, 401)
AWAY = ServiceDown("local", "local: 127.0.0.1 port 8394 cannot be reached: Connection refused")


@pytest.mark.parametrize(
    ("mode", "events", "line"),
    [
        ("assistant", [], "listening"),
        ("announce", [], "ready to speak"),
        ("captions", [], "writing captions"),
        ("assistant", [DeviceLost("microphone", "why")], 'no microphone: waiting for "USB PnP"'),
        ("assistant", [DeviceLost("speaker", "why")], "no speaker: waiting for any; listening"),
        ("assistant", [REFUSED], "neuphonic refused the key; speaking with the local voice"),
        ("announce", [REFUSED], "neuphonic refused the key; speaking with the local voice"),
        ("assistant", [REFUSED, AWAY], f"neuphonic refused the key; {AWAY.reason}; nobody can speak"),
        ("assistant", [AWAY], f"{AWAY.reason}; listening"),
        ("assistant", [ServiceDown("neuphonic", "x", False, 503)],
         "neuphonic is overloaded; speaking with the local voice"),
        ("assistant", [ServiceDown("transcription", "broke off")], "transcription: broke off; listening"),
        ("assistant", [REFUSED, ServiceUp("neuphonic", 3)], "listening"),
        ("assistant", [DeviceLost("microphone", "why"), DeviceBack("microphone", 2.0)], "listening"),
        ("assistant", [MicrophoneMute(True, "control")], "the microphone is muted"),
        ("announce", [MicrophoneMute(True, "what was set before the restart")], "ready to speak"),
        ("captions", [Mute(True, "what was set before the restart")], "writing captions"),
    ],
)  # fmt: skip
def test_how_it_is_is_said_in_words_that_a_person_understands(mode: str, events: list[Event], line: str) -> None:
    condition = StatusTracker(mode, ("neuphonic", "local"), microphone="USB PnP")
    for event in events:
        condition.note(event)
    assert condition.line(State.IDLE) == line


def test_what_it_does_is_said_beside_what_is_wrong() -> None:
    condition = StatusTracker("assistant", ("neuphonic", "local"))
    condition.note(REFUSED)
    assert condition.line(State.THINKING) == "neuphonic refused the key; speaking with the local voice; thinking"
    condition.note(DeviceLost("microphone", "why"))
    status = condition.status(State.SPEAKING, 70)
    assert status.troubles == ("no microphone: waiting for any", "neuphonic refused the key")
    assert (status.state, status.volume) == ("speaking", 70)


def test_after_a_reload_nothing_is_known_of_the_services_and_after_a_vain_one_it_is_said() -> None:
    condition = StatusTracker("announce", ("neuphonic", "local"))
    condition.note(REFUSED)
    condition.not_reloaded("config.yaml:3: speaker: unknown key")
    assert "the new configuration is not used: config.yaml:3: speaker: unknown key" in condition.line(State.IDLE)
    assert "neuphonic refused the key" in condition.line(State.IDLE)
    condition.reloaded(("fish", "local"))
    assert condition.line(State.IDLE) == "ready to speak"
    condition.note(ServiceDown("fish", "x", True, 403, reading=condition.reading))
    assert condition.line(State.IDLE) == "fish refused the key; speaking with the local voice"


def test_what_a_replaced_service_still_tells_is_not_said_for_ever() -> None:
    """The configuration is read again while the old service is being dialled. It failed a moment later and said so,
    and nobody ever took that back: the new one never had any trouble that could end."""
    condition = StatusTracker("announce", ("neuphonic", "local"))
    told: list[Event] = []
    new = of_reading(condition.reading + 1, told.append)
    condition.reloaded(("neuphonic", "local"))
    condition.note(REFUSED)  # the old one's
    assert condition.line(State.IDLE) == "ready to speak"
    new(REFUSED)
    new(ServiceUp("neuphonic", 1))
    condition.note(told[0])
    assert "refused the key" in condition.line(State.IDLE)
    condition.note(ServiceUp("neuphonic", 1))  # the old one's again
    assert "refused the key" in condition.line(State.IDLE)
    condition.note(told[1])
    assert condition.line(State.IDLE) == "ready to speak"


def test_what_is_not_replaced_keeps_its_trouble() -> None:
    condition = StatusTracker("captions")
    condition.note(ServiceDown("transcription", "broke off"))
    condition.reloaded((), replaced=False)
    assert condition.line(State.IDLE) == "transcription: broke off; writing captions"
    condition.note(ServiceUp("transcription", 1))
    assert condition.line(State.IDLE) == "writing captions"

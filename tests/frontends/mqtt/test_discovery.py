"""The discovery message against the table of Home Assistant's fields."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from support.home_assistant import validate

from agent.frontends.mqtt.device_state import PublishedState
from agent.frontends.mqtt.discovery import TURN_EVENTS, About, discovery_message, discovery_topic
from agent.frontends.mqtt.requests import COMMANDS
from agent.frontends.mqtt.topics import Topics
from agent.pipeline.status import VISIBLE_STATES, Status, TimerStatus

TOPICS = Topics("voice-agent", "kitchen")
MODES = {"assistant": (True, True), "announce": (True, False), "captions": (False, True)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["kitchen", "Küche 2", "a.b"])
def test_home_assistant_accepts_the_message_of_every_mode(mode: str, name: str) -> None:
    speaks, listens = MODES[mode]
    about = About(
        "1.2", speaks=speaks, listens=listens, page="https://192.0.2.1:8395/", room="Kitchen", has_button=True
    )
    topics = TOPICS._replace(name=name)
    validate(discovery_topic(topics), json.loads(json.dumps(discovery_message(topics, about))))


def test_the_table_refuses_what_home_assistant_refuses() -> None:
    message = discovery_message(TOPICS, About("1.2"))
    del message["components"]["volume"]["command_topic"]  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError):
        validate(discovery_topic(TOPICS), message)


def test_names_that_differ_only_in_replaced_characters_have_different_topics() -> None:
    names = ("a.b", "a_b", "a b", "ä_b")
    assert len({discovery_topic(TOPICS._replace(name=name)) for name in names}) == len(names)


def test_every_template_reads_a_field_of_the_state_and_every_command_has_a_reader() -> None:
    state = PublishedState({"version": "1.2"}).update(Status("idle", "idle", volume=1))
    assert state is not None
    components = discovery_message(TOPICS, About("1.2"))["components"]
    assert isinstance(components, dict)
    for fields in components.values():
        if "value_template" in fields:
            match = re.fullmatch(r"\{\{ value_json\.(\w+) \}\}", fields["value_template"])
            assert match is not None and match[1] in json.loads(state)
        if "command_topic" in fields:
            assert fields["command_topic"].removeprefix("voice-agent/kitchen/") in (*COMMANDS, "say")


def test_states_and_events_are_those_of_the_daemon() -> None:
    components = discovery_message(TOPICS, About("1.2"))["components"]
    assert isinstance(components, dict)
    assert components["state"]["options"] == list(VISIBLE_STATES)
    assert components["turn"]["event_types"] == list(TURN_EVENTS)


def test_next_timer_is_a_timestamp_with_all_timers_as_attributes() -> None:
    timers = (
        TimerStatus(2, "egg", False, "ringing", 1_795_953_500.0),
        TimerStatus(1, "tea", False, "running", 1_795_953_610.2),
        TimerStatus(3, "", False, "paused", None, 60.0),
    )
    status = Status("idle", "idle", timers=timers)
    for texts in (False, True):
        state = PublishedState({}, texts=texts).update(status)
        assert state is not None and (b"tea" in state) is texts
        values = json.loads(state)
        assert values["next_timer"] == "2026-11-29T12:00:10+00:00"
        assert [each["state"] for each in values["timers"]] == ["ringing", "running", "paused"]
    components = discovery_message(TOPICS, About("1.2"))["components"]
    assert isinstance(components, dict)
    assert components["next_timer"]["device_class"] == "timestamp"
    assert "timer" not in discovery_message(TOPICS, About("1.2", listens=False))["components"]  # type: ignore[operator]


def test_the_version_has_no_command_to_install() -> None:
    components = discovery_message(TOPICS, About("1.2"))["components"]
    assert isinstance(components, dict)
    assert "command_topic" not in components["version"] and "payload_install" not in components["version"]


@pytest.mark.parametrize(
    ("page", "host", "expected"),
    [
        ("http://{host}:8395/", "192.0.2.7", "http://192.0.2.7:8395/"),
        ("http://{host}:8395/", "2001:db8::7", "http://[2001:db8::7]:8395/"),
        ("http://{host}:8395/", None, None),
        ("https://192.0.2.1:1/", "192.0.2.7", "https://192.0.2.1:1/"),
        (None, "192.0.2.7", None),
    ],
)
def test_a_page_on_all_addresses_is_at_the_address_that_the_broker_sees(
    page: str | None, host: str | None, expected: str | None
) -> None:
    assert About("1.2", page=page).at(host).page == expected

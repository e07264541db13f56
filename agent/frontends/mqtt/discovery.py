"""Builds the MQTT discovery message, which makes the device appear in Home Assistant.

Source: the documentation of Home Assistant 2024.11 and later ("MQTT discovery", device discovery payload).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.frontends.api.milestones import BUTTON, FAILED, HEARD, SPOKEN, WAKE
from agent.frontends.mqtt.topics import Topics
from agent.pipeline.status import VISIBLE_STATES
from agent.pipeline.timers import TimerChange
from agent.system.named_tuple import NamedTuple

PROJECT = "https://github.com/voice-agent/voice-agent"
TURN_EVENTS = (WAKE, HEARD, SPOKEN, FAILED)

ANY_HOST = "{host}"
"""Placeholder in ``About.page`` for the host, if the web server listens on all addresses."""

Fields = dict[str, object]


class About(NamedTuple):
    """Facts about the device that do not change while it runs. Immutable.

    Args:
        version: The version of this program.
        speaks: Whether the device speaks in its mode.
        listens: Whether the device listens in its mode.
        page: The URL of the page; ``None`` if other machines cannot reach the page.
        room: The room of the device; ``None`` if it is not set.
        has_button: Whether the device reports presses of a button.
        selects: The values that the user may choose in Home Assistant, by setting (``voice``, ``wake_word``). A setting
            without a choice is missing.
    """

    version: str
    speaks: bool = True
    listens: bool = True
    page: str | None = None
    room: str | None = None
    has_button: bool = False
    selects: Mapping[str, tuple[str, ...]] = {}

    def at(self, host: str | None) -> About:
        """Return the facts with ``ANY_HOST`` in ``page`` replaced.

        Args:
            host: The address of this machine in the network of the broker; ``None`` if it is not known. Then the result
                has no page.
        """
        if self.page is None or ANY_HOST not in self.page:
            return self
        shown = f"[{host}]" if host is not None and ":" in host else host
        return self._replace(page=None if shown is None else self.page.replace(ANY_HOST, shown))


def discovery_topic(topics: Topics) -> str:
    """Return the topic of the discovery message."""
    return f"homeassistant/device/{topics.object_id}/config"


def discovery_message(topics: Topics, about: About) -> Fields:
    """Return the discovery message: the device with all its entities."""
    device: Fields = {
        "identifiers": [topics.object_id],
        "name": topics.name,
        "manufacturer": "voice-agent",
        "model": "voice-agent",
        "sw_version": about.version,
    }
    if about.page is not None:
        device["configuration_url"] = about.page
    if about.room is not None:
        device["suggested_area"] = about.room
    components = {key: {**fields, "unique_id": f"{topics.object_id}_{key}"} for key, fields in _entities(topics, about)}
    if about.has_button:
        components |= {f"{press}_press": _trigger(topics, press) for press in ("short", "long")}
    return {
        "device": device,
        "origin": {"name": "voice-agent", "sw_version": about.version, "support_url": PROJECT},
        "availability_topic": topics.of("availability"),
        "components": components,
    }


def _entities(topics: Topics, about: About) -> Iterator[tuple[str, Fields]]:
    if about.speaks:
        # Quality of service 1, so that the broker keeps a text while the device is not connected.
        yield "say", {"platform": "notify", "name": "Say", "command_topic": topics.of("say"), "qos": 1}
        yield (
            "volume",
            {
                "platform": "number",
                "name": "Volume",
                "icon": "mdi:volume-high",
                **_value(topics, "volume"),
                "command_topic": topics.of("volume/set"),
                "min": 0,
                "max": 100,
                "step": 1,
                "unit_of_measurement": "%",
            },
        )
        yield "speaker", _switch(topics, "Speaker", "speaker", "mdi:speaker")
    if about.listens:
        yield "microphone", _switch(topics, "Microphone", "microphone", "mdi:microphone")
        yield "listen", _button(topics, "Listen", "listen", "mdi:ear-hearing")
    yield (
        "state",
        {
            "platform": "sensor",
            "name": "State",
            "icon": "mdi:account-voice",
            "device_class": "enum",
            "options": list(VISIBLE_STATES),
            **_value(topics, "state"),
        },
    )
    yield (
        "turn",
        {
            "platform": "event",
            "name": "Turn",
            "icon": "mdi:forum",
            "state_topic": topics.of("turn"),
            "event_types": list(TURN_EVENTS),
        },
    )
    for setting, name, icon in (
        ("wake_word", "Wake word", "mdi:account-tie-voice"),
        ("voice", "Voice", "mdi:account-voice"),
    ):
        if setting in about.selects:
            select = _switch(topics, name, setting, icon)
            yield (
                setting,
                {**select, "platform": "select", "options": [*about.selects[setting]], "entity_category": "config"},
            )
    if about.speaks and about.listens:
        yield from _timers(topics)
    if about.speaks:
        yield "hush", _button(topics, "Hush", "hush", "mdi:volume-off")
    yield (
        "restart",
        {**_button(topics, "Restart", "restart"), "device_class": "restart", "entity_category": "config"},
    )
    yield (
        "version",
        {
            "platform": "update",
            "name": "Version",
            "state_topic": topics.of("version"),
            "entity_category": "diagnostic",
            "release_url": PROJECT,
        },
    )
    yield from _diagnostics(topics, about)


def _timers(topics: Topics) -> Iterator[tuple[str, Fields]]:
    yield (
        "next_timer",
        {
            "platform": "sensor",
            "name": "Next timer",
            "icon": "mdi:timer-outline",
            "device_class": "timestamp",
            **_value(topics, "next_timer"),
            "json_attributes_topic": topics.of("state"),
            "json_attributes_template": '{{ {"timers": value_json.timers} | tojson }}',
        },
    )
    yield (
        "timer",
        {
            "platform": "event",
            "name": "Timer",
            "icon": "mdi:timer-alert-outline",
            "state_topic": topics.of("timer"),
            "event_types": [change.value for change in TimerChange],
        },
    )


def _diagnostics(topics: Topics, about: About) -> Iterator[tuple[str, Fields]]:
    if about.speaks:
        yield (
            "first_audio",
            {
                "platform": "sensor",
                "name": "First audio",
                **_value(topics, "first_audio_seconds"),
                "device_class": "duration",
                "unit_of_measurement": "s",
                "state_class": "measurement",
                "suggested_display_precision": 2,
                "entity_category": "diagnostic",
            },
        )
    for key, name, icon in (
        ("services", "Services", "mdi:cloud-check"),
        ("last_fault", "Last fault", "mdi:alert-circle-outline"),
    ):
        yield (
            key,
            {
                "platform": "sensor",
                "name": name,
                "icon": icon,
                **_value(topics, key),
                "entity_category": "diagnostic",
            },
        )


def _value(topics: Topics, field: str) -> Fields:
    return {"state_topic": topics.of("state"), "value_template": f"{{{{ value_json.{field} }}}}"}


def _switch(topics: Topics, name: str, field: str, icon: str) -> Fields:
    return {
        "platform": "switch",
        "name": name,
        "icon": icon,
        **_value(topics, field),
        "command_topic": topics.of(f"{field}/set"),
    }


def _trigger(topics: Topics, press: str) -> Fields:
    """Return a device trigger for automations. Unlike the other components it is no entity and has no unique id."""
    return {
        "platform": "device_automation",
        "automation_type": "trigger",
        "type": f"button_{press}_press",
        "subtype": "button_1",
        "topic": topics.of(BUTTON),
        "payload": press,
    }


def _button(topics: Topics, name: str, command: str, icon: str | None = None) -> Fields:
    fields: Fields = {"platform": "button", "name": name, "command_topic": topics.of(command)}
    return fields if icon is None else {**fields, "icon": icon}

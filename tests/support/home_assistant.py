"""What Home Assistant accepts as the discovery message of a device, as a table.

Home Assistant 2026.11 needs Python 3.14, so its own code cannot run beside the tests. The table is written from the
sources of its package: ``components/mqtt/schemas.py`` (device, origin, shared options), ``config.py`` (base, read-only
and read-write platforms) and ``notify.py``, ``number.py``, ``switch.py``, ``sensor.py``, ``event.py``, ``button.py``,
``select.py``, ``update.py``, ``device_trigger.py``. Home Assistant drops an unknown field of an entity silently; here
it is an error.
"""

from __future__ import annotations

import re
from typing import Any

import jsonschema

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
BOOLEAN = {"type": "boolean"}
SUBSCRIBED = {"type": "string", "pattern": r"^[^\x00]{1,65535}$"}
PUBLISHED = {"type": "string", "pattern": r"^[^+#\x00]{1,65535}$"}
TEMPLATE = {"type": "string", "pattern": r"\{\{.*\}\}"}
QOS = {"enum": [0, 1, 2]}
URL = {"type": "string", "pattern": r"^(https?|homeassistant)://[^/{}]+"}
ICON = {"type": "string", "pattern": r"^mdi:[a-z0-9-]+$"}
LIST = {"type": "array", "items": TEXT, "minItems": 1}

BASE = {"qos": QOS, "encoding": TEXT}
COMMON = {
    **BASE,
    "platform": TEXT,
    "name": {"type": ["string", "null"]},
    "unique_id": TEXT,
    "icon": ICON,
    "enabled_by_default": BOOLEAN,
    "entity_category": {"enum": ["config", "diagnostic"]},
    "default_entity_id": TEXT,
    "json_attributes_topic": SUBSCRIBED,
    "json_attributes_template": TEMPLATE,
    "availability_topic": SUBSCRIBED,
    "message_expiry_interval": {"type": "integer", "minimum": 0},
}
READ = {**COMMON, "state_topic": SUBSCRIBED, "value_template": TEMPLATE}
WRITE = {**READ, "command_topic": PUBLISHED, "command_template": TEMPLATE, "retain": BOOLEAN, "optimistic": BOOLEAN}
PRESSED = {**COMMON, "command_topic": PUBLISHED, "command_template": TEMPLATE, "retain": BOOLEAN}


def _entity(fields: dict[str, Any], *required: str, category: tuple[str, ...] = ("config", "diagnostic")) -> Any:
    properties = {**fields}
    if "entity_category" in properties:
        properties["entity_category"] = {"enum": list(category)}
    names = ["platform", *required]
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


ENTITIES = {
    "notify": _entity(PRESSED, "unique_id", "command_topic"),
    "number": _entity(
        {
            **WRITE,
            "min": NUMBER,
            "max": NUMBER,
            "step": {"type": "number", "minimum": 0.001},
            "mode": {"enum": ["auto", "box", "slider"]},
            "unit_of_measurement": TEXT,
            "device_class": TEXT,
            "payload_reset": TEXT,
        },
        "unique_id",
        "command_topic",
    ),
    "switch": _entity(
        {**WRITE, **dict.fromkeys(("payload_on", "payload_off", "state_on", "state_off", "device_class"), TEXT)},
        "unique_id",
        "command_topic",
    ),
    "select": _entity({**WRITE, "options": LIST}, "unique_id", "command_topic", "options"),
    # A sensor or an event cannot be a setting (entity_category_without_config).
    "sensor": _entity(
        {
            **READ,
            "device_class": {"enum": ["enum", "duration", "timestamp"]},
            "options": LIST,
            "state_class": {"enum": ["measurement", "total", "total_increasing"]},
            "unit_of_measurement": TEXT,
            "suggested_display_precision": {"type": "integer", "minimum": 0},
            "expire_after": {"type": "integer", "minimum": 0},
            "force_update": BOOLEAN,
        },
        "unique_id",
        "state_topic",
        category=("diagnostic",),
    ),
    "event": _entity(
        {**READ, "device_class": {"enum": ["button", "doorbell", "motion"]}, "event_types": LIST},
        "unique_id",
        "state_topic",
        "event_types",
    ),
    "button": _entity(
        {**PRESSED, "device_class": {"enum": ["identify", "restart", "update"]}, "payload_press": TEXT},
        "unique_id",
        "command_topic",
    ),
    "update": _entity(
        {
            **READ,
            "command_topic": PUBLISHED,
            "device_class": {"enum": ["firmware"]},
            "display_precision": {"type": "integer", "minimum": 0},
            "latest_version_topic": SUBSCRIBED,
            "latest_version_template": TEMPLATE,
            "payload_install": TEXT,
            "release_summary": TEXT,
            "release_url": TEXT,
            "retain": BOOLEAN,
            "title": TEXT,
        },
        "unique_id",
        "state_topic",
    ),
    "device_automation": _entity(
        {
            **BASE,
            "platform": TEXT,
            "automation_type": {"const": "trigger"},
            "payload": TEXT,
            "topic": SUBSCRIBED,
            "type": TEXT,
            "subtype": TEXT,
            "value_template": TEMPLATE,
        },
        "automation_type",
        "topic",
        "type",
        "subtype",
    ),
}

DEVICE = {
    "type": "object",
    "properties": {
        "identifiers": LIST,
        **dict.fromkeys(("manufacturer", "model", "model_id", "name", "hw_version", "sw_version"), TEXT),
        **dict.fromkeys(("serial_number", "via_device", "suggested_area"), TEXT),
        "configuration_url": URL,
    },
    "required": ["identifiers"],
    "additionalProperties": False,
}
MESSAGE = {
    "type": "object",
    "properties": {
        "device": DEVICE,
        "origin": {
            "type": "object",
            "properties": {"name": TEXT, "sw_version": TEXT, "support_url": URL},
            "required": ["name"],
            "additionalProperties": False,
        },
        "components": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
        "availability_topic": SUBSCRIBED,
        "payload_available": TEXT,
        "payload_not_available": TEXT,
        "state_topic": SUBSCRIBED,
        "command_topic": PUBLISHED,
        "qos": QOS,
        "encoding": TEXT,
    },
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
}
# discovery.py, TOPIC_MATCHER; the second level may be left out.
TOPIC = re.compile(r"homeassistant/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")


def validate(topic: str, message: Any) -> None:
    """Raise if Home Assistant would refuse the message, or drop a part of it."""
    assert TOPIC.fullmatch(topic), topic
    jsonschema.validate(message, MESSAGE)
    for fields in message["components"].values():
        jsonschema.validate(fields, ENTITIES[fields["platform"]])
        if fields["platform"] == "sensor":
            _validate_sensor(fields)
        if fields["platform"] == "number":
            assert fields["min"] <= fields["max"]
    ids = [fields["unique_id"] for fields in message["components"].values() if "unique_id" in fields]
    assert len(ids) == len(set(ids))


def _validate_sensor(fields: dict[str, Any]) -> None:
    """Check the rules between keys (sensor.py, validate_sensor_state_and_device_class_config)."""
    if "options" in fields:
        assert fields.get("device_class") == "enum"
        assert "state_class" not in fields and "unit_of_measurement" not in fields
    assert fields.get("device_class") != "enum" or "options" in fields
    if fields.get("device_class") == "duration":
        assert fields["unit_of_measurement"] in ("d", "h", "min", "s", "ms", "μs")

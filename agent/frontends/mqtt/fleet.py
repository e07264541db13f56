"""Collects the states and the records that the devices of a fleet publish."""

from __future__ import annotations

from agent.frontends.mqtt.topics import RESERVED
from agent.system.json_text import parse_json

ENDS = ("played", "cancelled", "failed", "expired", "dropped", "interrupted", "rejected")
"""The states in which a text ends on a device. ``rejected`` stands for a message on the topic ``error``; the other
states are those of records."""

Fields = dict[str, object]


class Fleet:
    """Collects the messages of the devices. Not thread-safe; owned by the thread that receives the messages.

    Args:
        root: The first level of the topics.

    Attributes:
        id: The id of the text whose records are collected; ``None``: no records are collected.
        records: The newest record of that text, by device.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._availability: dict[str, str] = {}
        self._states: dict[str, Fields] = {}
        self.records: dict[str, Fields] = {}
        self.id: str | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to subscribe to."""
        return tuple(f"{self._root}/+/{part}" for part in ("availability", "state", "record", "error"))

    def receive(self, topic: str, payload: bytes) -> None:
        """Process a message. Messages that do not come from a device, or cannot be parsed, are ignored."""
        root, _, rest = topic.partition("/")
        name, _, part = rest.partition("/")
        if root != self._root or name in RESERVED:
            return
        if part == "availability":
            self._availability[name] = payload.decode("utf-8", "replace")
            return
        fields = parse_json(payload)
        if isinstance(fields, str):
            return
        if part == "state":
            self._states[name] = fields
        elif part == "record" and self.id is not None and fields.get("id") == self.id:
            self.records[name] = fields
        elif part == "error" and self.id is not None and fields.get("id") == self.id:
            self.records[name] = {"device": name, "id": self.id, "state": "rejected", "reason": fields.get("error")}

    def devices(self) -> list[Fields]:
        """Return the devices, sorted by name. Each has the fields of its state, ``device`` and ``online``."""
        names = sorted(self._availability.keys() | self._states.keys())
        return [
            {**self._states.get(name, {}), "device": name, "online": self._availability.get(name) == "online"}
            for name in names
        ]

    def ended(self) -> list[str]:
        """Return the names of the devices on which the text has ended, sorted."""
        return sorted(name for name, record in self.records.items() if record.get("state") in ENDS)

"""The devices of a fleet, as their retained messages and records show them."""

from __future__ import annotations

from agent.frontends.mqtt.topics import RESERVED
from agent.system.json_text import parse_json

ENDS = ("played", "cancelled", "failed", "expired", "dropped", "interrupted", "rejected")
"""The states in which a text ends on a device; ``rejected`` is an answer on the topic of errors."""

Fields = dict[str, object]


class Fleet:
    """Collects what the devices publish. Not thread-safe; owned by the thread that receives the messages.

    Args:
        root: The first level of the topics.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._availability: dict[str, str] = {}
        self._states: dict[str, Fields] = {}
        self.records: dict[str, Fields] = {}  # by device: the newest of the text ``id``
        self.id: str | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to subscribe to."""
        return tuple(f"{self._root}/+/{part}" for part in ("availability", "state", "record", "error"))

    def receive(self, topic: str, payload: bytes) -> None:
        """Take a message; ignore what no device sends."""
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
        """Return the devices by name: ``device``, ``online``, and their state."""
        names = sorted(self._availability.keys() | self._states.keys())
        return [
            {**self._states.get(name, {}), "device": name, "online": self._availability.get(name) == "online"}
            for name in names
        ]

    def ended(self) -> list[str]:
        """Return the devices on which the text has ended."""
        return sorted(name for name, record in self.records.items() if record.get("state") in ENDS)

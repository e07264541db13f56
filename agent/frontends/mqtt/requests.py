"""Converts the payloads of received messages into requests of the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.system.json_text import json_type, parse_json
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

RESTART = "restart"
"""A command that is no method of the API: the frontend reports it as an event."""
MAX_PAYLOAD_BYTES = 64 * 1024
SAY_KEYS = {
    "message": "text",
    "priority": "priority",
    "ttl": "ttl_seconds",
    "id": "id",
    "chime": "chime",
    "volume": "volume",
}
"""The keys of a JSON payload with a text, and the parameters of the method ``say`` that they set."""


class MqttRequest(NamedTuple):
    """One request. Immutable. ``method``: a method of the API, or ``RESTART``."""

    method: str
    params: Mapping[str, object]


def read_say(payload: bytes) -> MqttRequest | str:
    """Return the request for a payload with a text, which is plain text or a JSON object.

    For an invalid payload, return the reason and the cure as text.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        return f"the payload has {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} are accepted: say the text in parts"
    if not payload.lstrip().startswith(b"{"):
        try:
            return MqttRequest("say", {"text": payload.decode("utf-8")})
        except UnicodeDecodeError:
            return "the payload is no UTF-8: send plain text or JSON in UTF-8"
    values = parse_json(payload)
    if isinstance(values, str):
        return f'the payload begins like a JSON object, but {values}: send {{"message": "TEXT"}} or plain text'
    if unknown := sorted(values.keys() - SAY_KEYS):
        return f"there is no key {escape(unknown[0], 40)!r}: the keys are {', '.join(SAY_KEYS)}"
    if not isinstance(values.get("message"), str):
        return f"message is {json_type(values.get('message'))}, expected text"
    # Home Assistant renders a missing value of a template as null.
    return MqttRequest("say", {SAY_KEYS[name]: value for name, value in values.items() if value is not None})


def _switch(device: str) -> Callable[[str], MqttRequest | str]:
    def read(text: str) -> MqttRequest | str:
        if text not in ("ON", "OFF"):
            return f"the payload is {escape(text, 40)!r}, expected ON or OFF"
        return MqttRequest("unmute" if text == "ON" else "mute", {"device": device})

    return read


def _volume(text: str) -> MqttRequest | str:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:  # also false for NaN
        return f"the payload is {escape(text, 40)!r}, expected a number from 0 to 100"
    return MqttRequest("volume", {"percent": round(number)})


_READERS: dict[str, Callable[[str], MqttRequest | str]] = {
    "volume/set": _volume,
    "microphone/set": _switch("microphone"),
    "speaker/set": _switch("speaker"),
    "listen": lambda text: MqttRequest("listen", {}),
    "hush": lambda text: MqttRequest("hush", {}),
    "cancel": lambda text: MqttRequest("cancel", {"id": text}),
    RESTART: lambda text: MqttRequest(RESTART, {}),
}
COMMANDS = tuple(_READERS)
"""The commands, which are the last levels of their topics. No command runs a program or installs software."""


def read_choice(payload: bytes, values: Sequence[str]) -> tuple[str | None, str]:
    """Return the chosen value and an empty text; for an invalid payload ``None`` and the reason, with the cure."""
    text = payload[:MAX_PAYLOAD_BYTES].decode("utf-8", "replace").strip()
    if text in values:
        return text, ""
    return None, f"the payload is {escape(text, 40)!r}, expected {' or '.join(values)}"


def read_command(command: str, payload: bytes) -> MqttRequest | str:
    """Return the request for one of ``COMMANDS``; for an invalid payload the reason as text, with the cure."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return f"the payload has {len(payload)} bytes, expected a short text"
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        return "the payload is no UTF-8"
    return _READERS[command](text)

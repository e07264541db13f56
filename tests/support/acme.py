"""Acme: JSON messages with text in one direction, raw audio (16 kHz mono s16le) in the other.

The worked example of CONTRIBUTING.md. A real codec names its source here: the page, the SDK and its version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.config.secrets import Secret
from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Handshake,
    Message,
    ServerSide,
    Text,
    TtsService,
)
from agent.services.protocols.handshake import header, keys_match
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import parse_json
from agent.system.named_tuple import NamedTuple

NAME = "acme"
PATH = "/acme/speech"
ENCODING = Encoding("raw", 16000)


@section
class Settings(NamedTuple):
    """The service Acme."""

    url: str = key(f"wss://api.acme.example{PATH}", "WebSocket URL; change it for a server of your own")
    api_key: Secret = key(
        lambda: Secret(credential=NAME), "where the API key is stored; its account pays for the speech"
    )
    voice: str = key("anna", "name of the voice", choices=("anna", "otto"))
    speed: float = key(1.0, "speed of the voice; 1 is natural", low=0.5, high=2.0)


def check(settings: Settings) -> Iterator[Finding]:
    """Yield the rules between keys that the settings break."""
    if settings.voice == "otto" and settings.speed > 1.5:
        yield Finding("speed", "otto speaks at most at speed 1.5, expected 1.5 or less", "1.5", cause="voice")


class Client:
    """Sends text and receives audio. Not thread-safe; owned by the thread that owns the connection."""

    service = NAME
    encoding = ENCODING
    max_idle_seconds: float | None = None
    is_single_use = False
    receive_timeout_seconds: float | None = None

    def __init__(self, settings: Settings, url: str, api_key: str | None) -> None:
        self._url, self._api_key = url, api_key
        self._options = {"voice": settings.voice, "speed": settings.speed}
        self._has_ended = False
        self._is_complete = False

    def handshake(self) -> Handshake:
        return Handshake(self._url, {"X-Key": self._api_key} if self._api_key else {})

    def send(self, event: Event) -> list[Message]:
        if self._has_ended:
            return []
        if isinstance(event, Text):
            return [json.dumps({"text": event.text, **self._options})]
        if isinstance(event, Flush):
            return [json.dumps({"flush": True})]
        if isinstance(event, End):
            self._has_ended = True
            return [json.dumps({"end": True})]
        return []

    def receive(self, message: Message) -> list[Event]:
        if isinstance(message, bytes):
            return [Audio(message)]
        answer = parse_json(message)
        if answer == {"flushed": True}:
            return [Flush()]
        if answer == {"ended": True}:
            self._is_complete = True
            return [End()]
        return [Failure(NAME, excerpt(message, self._api_key), "audio, flushed or ended")]

    def receive_timeout(self) -> list[Event]:
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._is_complete:
            return []
        return [Failure(NAME, f"the close code {code}", "ended before the connection ends", status=code)]


class Server:
    """Mirrors ``Client`` for the local speech server. Not thread-safe; owned by the session."""

    service = NAME
    encoding = ENCODING

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key
        self.voice, self.speed = "", 1.0

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        if self._api_key and not keys_match(header(headers, "X-Key"), self._api_key):
            return Failure(NAME, "no key or a wrong key", "its key in X-Key", permanent=True, status=401)
        return None

    def receive(self, message: Message) -> list[Event]:
        request = parse_json(message)
        if isinstance(request, str):
            return [Failure(NAME, excerpt(message, self._api_key), f"a JSON object ({request})", fatal=False)]
        if isinstance(request.get("text"), str):
            return [Text(str(request["text"]))]
        return [End()] if request.get("end") else [Flush()]

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Audio):
            return [event.data] if event.data else []
        if isinstance(event, Flush):
            return [json.dumps({"flushed": True})]
        return [json.dumps({"ended": True})] if isinstance(event, End) else []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        return [End()]


def serve(api_key: str | None, options: Mapping[str, Any]) -> ServerSide:
    """Return what the local speech server needs."""
    return ServerSide(lambda: Server(api_key))


SERVICE = TtsService(
    name=NAME,
    title="Acme",
    settings=Settings,
    client=Client,
    check=check,
    server=serve,
    paths=(PATH,),
    local_settings=lambda base: {"url": f"{base}{PATH}"},
)

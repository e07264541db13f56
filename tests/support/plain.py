"""A minimal codec: text messages are text, binary messages are audio, and the end mark is a text message."""

from __future__ import annotations

from collections.abc import Mapping

from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Handshake, Message, Text

END_MARK = "<END>"


class Plain:
    """A client codec. `closes` holds every code that `receive_close` received."""

    service = "plain"
    encoding = Encoding("raw", 16000)
    receive_timeout_seconds: float | None = None
    max_idle_seconds: float | None = None
    is_single_use = False

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._handshake = Handshake(url, headers if headers is not None else {"x-api-key": "s3cret"})
        self._ended = False
        self.closes: list[int] = []

    def handshake(self) -> Handshake:
        return self._handshake

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Text):
            return [event.text]
        if isinstance(event, Audio):
            return [event.data]
        if isinstance(event, End) and not self._ended:
            self._ended = True
            return [END_MARK]
        return []

    def receive(self, message: Message) -> list[Event]:
        return [Text(message) if isinstance(message, str) else Audio(message)]

    def receive_timeout(self) -> list[Event]:
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        self.closes.append(code)
        return [Failure(self.service, f"close {code}", "the end", status=code)]

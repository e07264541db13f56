"""The responder that sends transcripts to a Wyoming service for intents, such as the satellite of this device."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from agent.config.fields import key, section
from agent.errors import ServiceError
from agent.pipeline.responders.responder import (
    MAX_SILENCE_SECONDS,
    DeviceContext,
    ReplyPieces,
    ResponderKind,
    StatelessResponder,
)
from agent.pipeline.responders.settings import ResponderSettings
from agent.services.protocols.parsing import excerpt
from agent.services.protocols.wyoming import reported_error, with_port
from agent.services.protocols.wyoming_event import EventBuffer, EventError, WyomingEvent, decode_event, encode_event
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

SERVICE = "wyoming"
_READ_BYTES = 65536
_POLL_SECONDS = MAX_SILENCE_SECONDS / 2


@section
class Settings(NamedTuple):
    """A service of the network that handles intents and speaks Wyoming."""

    url: str = key("tcp://127.0.0.1:10700", "address of the service; the default is the satellite of this device")


class WyomingResponder(StatelessResponder):
    """Sends each transcript as ``transcript`` and replies with the ``handled`` text (package ``wyoming``, handle.py).

    A streaming service sends ``handled-chunk`` events. The text of ``not-handled`` is a reply as well.
    Not thread-safe; owned by the responder thread.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0, allow_plaintext: bool = False) -> None:
        self._url = urlsplit(with_port(settings.url))
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext

    def reply(self, text: str, turn: int) -> ReplyPieces:
        deadline = Deadline(self._timeout)
        with self._connect(deadline) as client:
            try:
                client.settimeout(deadline.remaining())
                client.sendall(encode_event("transcript", {"text": fix_surrogates(text)}))
                yield from self._read(client, deadline)
            except TimeoutError as error:
                raise ServiceError(SERVICE, f"no reply within {self._timeout:g} s") from error
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise ServiceError(SERVICE, f"the connection was lost: {reason}") from error
        return None

    def _connect(self, deadline: Deadline) -> socket.socket:
        from agent.services.connection.dial import CONNECT_SECONDS, connect_socket

        url = self._url
        return connect_socket(
            SERVICE,
            url.scheme,
            str(url.hostname),
            url.port or 0,
            deadline,
            self._allow_plaintext,
            None,
            CONNECT_SECONDS,
        )

    def _read(self, client: socket.socket, deadline: Deadline) -> Iterator[str]:
        has_text = False
        for event in self._events(client, deadline):
            if event is None:
                yield ""
            elif event.type == "handled-chunk":
                has_text = True
                yield _text(event)
            elif event.type in ("handled", "not-handled"):
                if not has_text:
                    yield _text(event)
                return
            elif event.type == "handled-stop":
                return
            elif event.type == "error":
                raise ServiceError(SERVICE, f"received {reported_error(SERVICE, event).received}")

    def _events(self, client: socket.socket, deadline: Deadline) -> Iterator[WyomingEvent | None]:
        """Yield each event, and ``None`` while none arrives."""
        buffer = EventBuffer()
        while True:
            try:
                while (message := buffer.next()) is not None:
                    yield decode_event(message)
            except EventError as error:
                raise ServiceError(SERVICE, f"received bytes that are no event ({error}): check url") from error
            if deadline.is_expired:
                raise TimeoutError
            client.settimeout(_POLL_SECONDS)
            try:
                data = client.recv(_READ_BYTES)
            except TimeoutError:
                yield None
                continue
            if not data:
                raise ServiceError(SERVICE, "the service closed the connection and did not reply")
            buffer.feed(data)


def _text(event: WyomingEvent) -> str:
    text = event.data.get("text")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ServiceError(SERVICE, f"received {event.type} with the text {excerpt(str(text))}, expected a text")
    return fix_surrogates(text)


def _make(settings: ResponderSettings, device: DeviceContext) -> WyomingResponder:
    return WyomingResponder(settings.settings("wyoming"), settings.timeout_seconds, settings.allow_plaintext)


RESPONDER = ResponderKind(
    make=_make,
    settings=Settings,
    url_key="url",
    url_schemes=("tcp",),
    # The service may carry out the request.
    has_effects=True,
)

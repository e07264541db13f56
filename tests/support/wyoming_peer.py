"""The other side of a Wyoming connection: a server that answers by a script, and a client that reads whole events."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from agent.services.protocols.wyoming_event import EventBuffer, WyomingEvent, decode_event, encode_event

TIMEOUT_SECONDS = 60.0

FORMAT = {"rate": 16000, "width": 2, "channels": 1}


def speech_info(*, streams: bool = False) -> bytes:
    return encode_event("info", {"tts": [{"name": "peer", "voices": [], "supports_synthesize_streaming": streams}]})


class WyomingPeer:
    """Accepts connections and gives the events of each to ``answer``, which sends; ``False`` closes. Thread-safe."""

    def __init__(self, answer: Callable[[socket.socket, WyomingEvent], bool | None]) -> None:
        self._answer = answer
        self.received: list[WyomingEvent] = []
        self.is_closed_by_client = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, name="wyoming peer")

    def __enter__(self) -> WyomingPeer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive()

    def types(self) -> list[str]:
        return [event.type for event in self.received]

    def _run(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.settimeout(TIMEOUT_SECONDS)
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        buffer = EventBuffer()
        while True:
            while (message := buffer.next()) is not None:
                event = decode_event(message)
                self.received.append(event)
                if self._answer(client, event) is False:
                    return
            data = client.recv(65536)
            if not data:
                self.is_closed_by_client.set()
                return
            buffer.feed(data)


class WyomingClient:
    """A client that reads whole events. Not thread-safe."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, TIMEOUT_SECONDS)
        self._buffer = EventBuffer()

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def read(self) -> WyomingEvent | None:
        """Return the next event; ``None`` at the end."""
        while (message := self._buffer.next()) is None:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._buffer.feed(data)
        return decode_event(message)

    def type(self) -> str | None:
        """Return the type of the next event; ``None`` at the end."""
        event = self.read()
        return None if event is None else event.type

    def read_until(self, last: str) -> list[WyomingEvent]:
        """Return the events up to the first one of this type."""
        events: list[WyomingEvent] = []
        while (event := self.read()) is not None:
            events.append(event)
            if event.type == last:
                return events
        raise AssertionError(f"the connection ended after {[event.type for event in events]}")

    def read_all(self) -> list[str]:
        """Return the types of the events up to the end of the connection, which may be a reset."""
        types = []
        with contextlib.suppress(ConnectionError):
            while (event := self.read()) is not None:
                types.append(event.type)
        return types

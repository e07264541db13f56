"""Dials a Wyoming server over TCP and splits the received bytes into events."""

from __future__ import annotations

import socket
from typing import Protocol
from urllib.parse import urlsplit

from agent.errors import ServiceError
from agent.services.connection.dial import connect_socket
from agent.services.connection.framing import CONNECTION_LOST, ProtocolError
from agent.services.connection.resolve import socket_timeout
from agent.services.connection.websocket import DEFAULT_TIMING, Connection, ConnectionTiming
from agent.services.protocols.codec import Client, Message
from agent.services.protocols.wyoming_event import EventBuffer, EventError
from agent.services.protocols.wyoming_info import InfoError
from agent.system.threads import Deadline

_READ_BYTES = 65536
_NORMAL, _PROTOCOL_ERROR = 1000, 1002  # WebSocket close codes: the codecs use them over TCP, too


class OpeningClient(Client, Protocol):
    """A codec whose connection begins with a request and a response. Not thread-safe; owned as ``Client``."""

    def opening(self) -> list[Message]:
        """Return the messages of the request that begins the connection."""
        ...

    def receive_opening(self, message: bytes) -> None:
        """Read the response to ``opening``. Raises ``InfoError`` if the server cannot be used."""
        ...


class EventFraming:
    """Converts the bytes of a Wyoming server to events; each event is one message.

    Not thread-safe; its connection owns it.
    """

    def __init__(self) -> None:
        self.frame_count = 0
        self._buffer = EventBuffer()

    @property
    def has_partial_frame(self) -> bool:
        return self._buffer.has_partial_event

    def feed(self, data: bytes) -> None:
        self._buffer.feed(data)

    def next(self) -> bytes | None:
        """Return the bytes of the next event, or ``None`` if more are needed. Raises ``ProtocolError``."""
        try:
            message = self._buffer.next()
        except EventError as error:
            raise ProtocolError(_PROTOCOL_ERROR, f"no Wyoming event: {error}") from error
        self.frame_count += message is not None
        return message

    def encode(self, message: Message) -> bytes:
        return message if isinstance(message, bytes) else message.encode("utf-8", "replace")

    # Nothing is sent: many servers ignore the event "ping", and the protocol has no event for the close.
    def ping(self, data: bytes) -> bytes:
        return b""

    def pong(self, data: bytes) -> bytes:
        return b""

    def close(self, payload: bytes) -> bytes:
        return b""

    def end(self) -> tuple[int, str]:
        if self.has_partial_frame:
            return CONNECTION_LOST, "the service closed the connection in the middle of an event"
        return _NORMAL, "the service closed the connection"


def connect(
    codec: OpeningClient,
    deadline: Deadline,
    *,
    allow_plaintext: bool = False,
    timing: ConnectionTiming = DEFAULT_TIMING,
) -> Connection:
    """Dial the URL of the codec's handshake and exchange the opening. Blocks, so call it in a dialing thread.

    Args:
        codec: The client side of the protocol.
        deadline: Limit for DNS, TCP and the opening together.
        allow_plaintext: Allow public addresses, although TCP is not encrypted; private ones are always allowed.
        timing: As for ``Connection``.

    Raises:
        ServiceError: The service is unreachable, is not a Wyoming server, or does not support the settings.
    """
    url = urlsplit(codec.handshake().url)
    host, port = str(url.hostname), url.port or 0
    sock = connect_socket(
        codec.service, url.scheme, host, port, deadline, allow_plaintext, None, timing.connect_seconds
    )
    try:
        framing = EventFraming()
        _open(sock, codec, framing, host, deadline)
        return Connection(sock, codec, timing, framing)
    except BaseException:
        sock.close()
        raise


def _open(sock: socket.socket, codec: OpeningClient, framing: EventFraming, host: str, deadline: Deadline) -> None:
    service = codec.service
    try:
        sock.settimeout(socket_timeout(deadline))
        sock.sendall(b"".join(map(framing.encode, codec.opening())))
        while (message := framing.next()) is None:
            sock.settimeout(socket_timeout(deadline))
            data = sock.recv(_READ_BYTES)
            if not data:
                raise ServiceError(service, f"{host} closed the connection and did not describe itself", transient=True)
            framing.feed(data)
    except ProtocolError as error:
        raise ServiceError(service, f"{host} is not a Wyoming server ({error.reason}): check url") from error
    except TimeoutError as error:
        raise ServiceError(service, f"{host} did not describe itself in time: check url") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        is_reset = isinstance(error, ConnectionResetError | BrokenPipeError)
        raise ServiceError(service, f"the connection to {host} was lost: {reason}", transient=is_reset) from error
    try:
        codec.receive_opening(message)
    except InfoError as error:
        raise ServiceError(service, f"{host} has {error}", permanent=error.is_permanent) from error

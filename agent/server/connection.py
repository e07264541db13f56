"""WebSocket connection of one client of the local server, with access to its socket."""

from __future__ import annotations

import socket
from typing import Any

from websockets.sync.server import ServerConnection

from agent.services.protocols.codec import Server, ServerSide


class ClientConnection(ServerConnection):
    """A connection of the websockets library that exposes its socket and carries its codec and service.

    The library documents no attribute for the socket. Its documented factory argument ``create_connection`` receives
    the socket, so this class stores it. Thread-safe.

    Attributes:
        codec: Codec of the requested path; set during the handshake.
        side: Server side of the speech service; ``None`` for the transcription service.
        client_socket: Socket of the connection; the library closes it.
    """

    codec: Server
    side: ServerSide | None = None

    def __init__(self, client_socket: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(client_socket, *args, **kwargs)
        self.client_socket = client_socket

    def disconnect(self) -> None:
        """End the TCP connection without a closing handshake."""
        disconnect(self.client_socket)


def disconnect(client: socket.socket) -> None:
    """End the TCP connection and wake the threads that read or write it; do nothing if the socket is closed.

    The socket stays open, and only its owner closes it. Otherwise the kernel could reuse the descriptor while another
    thread still uses it.
    """
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        return

"""WebSocket connection of one client of the local server, with access to its socket."""

from __future__ import annotations

import socket
from typing import Any

from websockets.sync.server import ServerConnection

from agent.services.protocols.codec import Server, ServerSide


class ClientConnection(ServerConnection):
    """A connection of the websockets library that exposes its socket and carries its codec and service.

    Thread-safe. The library documents the factory argument ``create_connection`` and passes the socket to it, but it
    documents no attribute for the socket.
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

    The socket stays open: only its owner closes it, so that no other thread uses a descriptor that was reused.
    """
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        return

"""Accepts clients on a listening socket and continues after errors."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from agent.server.connection import disconnect

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

_SEND_BUFFER_BYTES = 128 * 1024
"""Size of the send buffer of an accepted socket; the kernel doubles the value. By default the kernel buffers up to
4 MB. For a client that reads at playback speed, that is minutes of audio, and a ping behind this audio reaches the
client too late for a pong within the timeout."""


class Acceptor:
    """A thread that accepts clients from its construction until ``stop``. Thread-safe.

    If no descriptor, memory or thread is free, the acceptor waits and retries. Meanwhile, new clients wait in the
    kernel's queue of the listening socket.

    Args:
        server_socket: The listening socket, which this object owns.
        admit: Takes over an accepted socket and its address; called in the acceptor's thread. If it raises ``OSError``,
            ``MemoryError`` or ``RuntimeError`` (the system cannot create a thread), the acceptor closes the socket.
        name: Name of the server, for the thread and the log.
        retry_seconds: Time between two attempts after an error.
    """

    def __init__(
        self,
        server_socket: socket.socket,
        admit: Callable[[socket.socket, Any], None],
        name: str,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._socket, self._admit, self._name, self._retry_seconds = server_socket, admit, name, retry_seconds
        self._is_stopping = threading.Event()
        self._has_failed = False  # whether the last attempt to accept or admit a client failed
        self._thread = threading.Thread(target=self._run, name=f"accept {name}")
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting; ``join`` waits for the end. Idempotent."""
        self._is_stopping.set()
        disconnect(self._socket)  # wakes accept()

    def join(self, timeout_seconds: float | None) -> bool:
        """Wait until the thread ends after ``stop``; return whether it has ended."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._socket:
            while not self._is_stopping.is_set():
                try:
                    client, address = self._socket.accept()
                except ConnectionAbortedError:
                    continue  # only this client failed: it has already disconnected
                except (OSError, MemoryError) as error:
                    self._wait(error)
                    continue
                self._serve(client, address)

    def _serve(self, client: socket.socket, address: Any) -> None:
        try:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            self._admit(client, address)
        except (OSError, RuntimeError, MemoryError) as error:
            client.close()
            self._wait(error)
            return
        if self._has_failed:
            log.info("%s: clients are accepted again", self._name)
        self._has_failed = False

    def _wait(self, error: Exception) -> None:
        if self._is_stopping.is_set():
            return
        if not self._has_failed:
            log.warning("%s: clients cannot be accepted, out of descriptors, memory or threads: %s", self._name, error)
        self._has_failed = True
        # An immediate retry would fail as well: resources become free when a client disconnects.
        self._is_stopping.wait(self._retry_seconds)

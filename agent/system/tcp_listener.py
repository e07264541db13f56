"""Provides a TCP listener that retries while its address is not usable, and pauses when ``accept`` fails."""

from __future__ import annotations

import logging
import math
import select
import socket
from typing import Any

from agent.system.threads import Deadline

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
ACCEPT_PAUSE_SECONDS = 1.0


class TcpListener:
    """Listens on an address and accepts clients, for a thread that waits with ``poll``.

    If the address cannot be used (it is not up yet, or another program uses it), one error is logged. The owner calls
    ``open`` again when ``is_retry_due``. Not thread-safe; owned by one thread after the first ``open``.

    Args:
        name: The subject of the log lines.
        address: Host and port; port 0 selects a free port.
        setting: The keys of the configuration that set the address.
        backlog: Maximum number of clients that wait in the kernel.
        retry_seconds: Interval between attempts while the address cannot be used.
    """

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        setting: str,
        *,
        backlog: int,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._name, (self._host, self._port), self._setting = name, address, setting
        self._backlog, self._retry_seconds = backlog, retry_seconds
        self._socket: socket.socket | None = None
        self._retry = Deadline(None)
        self._pause = Deadline(0.0)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the listening socket. Valid only after a successful ``open``."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def is_retry_due(self) -> bool:
        """Whether an attempt to listen failed and the next one is due."""
        return self._retry.is_expired

    def fileno(self) -> int:
        """Return the descriptor of the listening socket; -1 without one."""
        return -1 if self._socket is None else self._socket.fileno()

    def open(self) -> bool:
        """Start to listen; return whether that succeeded. Of several failures in a row, only the first is logged."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family, backlog=self._backlog)
        except OSError as error:
            if self._retry.remaining() is None:
                from agent.system.ports import describe_bind_error

                log.error(
                    "%s: cannot listen, address=%s:%d, %s. Retry every %g s",
                    self._name,
                    f"[{self._host}]" if ":" in self._host else self._host,
                    self._port,
                    describe_bind_error(error, self._port, self._setting),
                    self._retry_seconds,
                )
            self._retry = Deadline(self._retry_seconds)
            return False
        listener.setblocking(False)
        self._socket, self._retry = listener, Deadline(None)
        return True

    def register(self, poll: select.poll) -> float:
        """Register the listening socket with ``poll``, unless a pause is active or there is no socket.

        Returns:
            The seconds until the next retry, or until the end of the pause; infinity if neither is pending.
        """
        if self._socket is not None and self._pause.is_expired:
            poll.register(self._socket, select.POLLIN)
            return math.inf
        remaining = (self._retry if self._socket is None else self._pause).remaining()
        return math.inf if remaining is None else remaining

    def accept(self) -> tuple[socket.socket, Any] | None:
        """Return the next client and its address; ``None`` if none waits, or after an error, which starts a pause."""
        if self._socket is None:
            return None
        try:
            return self._socket.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            log.warning("%s: cannot accept, %s, retry in %g s", self._name, error.strerror, ACCEPT_PAUSE_SECONDS)
            self.pause()
            return None

    def pause(self) -> None:
        """Accept no client for ``ACCEPT_PAUSE_SECONDS``, so that a readable port does not cause a busy loop."""
        self._pause = Deadline(ACCEPT_PAUSE_SECONDS)

    def close(self) -> None:
        """Stop listening and cancel the retry. Idempotent."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._retry = None, Deadline(None)

"""Cancellable HTTP sessions and the CA bundle they verify certificates with."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any


def ca_bundle() -> str | bool:
    """Return the CA file or directory from the environment, or ``True`` for the bundle of ``requests``.

    ``requests`` reads these variables itself only with ``trust_env``, which would also enable proxies and ``.netrc``.
    """
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True


class CancellableSession:
    """An HTTP exchange that another thread can cancel at any moment, also during the TLS handshake.

    Thread-safe, except the session of ``requests`` itself, which the requesting thread owns. ``close`` releases
    everything after the exchange.
    """

    def __init__(self) -> None:
        self.is_cancelled = False
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def is_connected(self) -> bool:
        """Whether a TCP connection was opened and ``close`` was not called."""
        with self._lock:
            return bool(self._sockets)

    def session(self) -> Any:
        """Return a ``requests.Session`` without proxies, ``.netrc`` or other settings of the environment.

        A key must reach the configured host and no other.
        """
        import requests  # imported late: costs 56 ms and 18 MB, needed for HTTP only

        session = requests.Session()
        session.trust_env = False
        session.verify = ca_bundle()
        adapter = requests.adapters.HTTPAdapter()
        adapter.poolmanager.pool_classes_by_scheme = _pool_classes(self)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def cancel(self) -> None:
        """End the exchange immediately; the requesting thread gets one of ``request_errors()``."""
        with self._lock:
            self.is_cancelled = True
            for each in self._sockets:
                _shutdown(each)

    def cancel_after(self, seconds: float) -> None:
        """Cancel the exchange after a total time; the timeout of ``requests`` restarts with each received byte.

        Raises:
            RuntimeError: The system cannot create more threads.
        """
        timer = threading.Timer(seconds, self.cancel)
        timer.daemon = True
        timer.start()
        self._timer = timer

    def close(self) -> None:
        """Release the timer and the sockets."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def add_socket(self, descriptor: int) -> None:
        """Register a socket that the exchange opened."""
        # A duplicate: urllib3 may close its descriptor before cancel(), and the number may be in use again by then.
        duplicate = socket.socket(fileno=os.dup(descriptor))
        with self._lock:
            self._sockets.append(duplicate)
            if self.is_cancelled:
                _shutdown(duplicate)


def request_errors() -> tuple[type[Exception], ...]:
    """Return all exceptions that a failed or cancelled request may raise.

    ``requests`` does not translate every exception of urllib3 and ``http.client``; ``RuntimeError`` means that the
    system cannot create more threads.
    """
    import http.client

    import requests
    from urllib3.exceptions import HTTPError

    return (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError, RuntimeError)


def _shutdown(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the peer has closed the connection already


def _pool_classes(exchange: CancellableSession) -> dict[str, Any]:
    """Return the connection pools of urllib3, with each socket registered before its TLS handshake."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    def registered(connection: Any) -> Any:
        class Registered(connection):  # type: ignore[misc]
            # urllib3 2 has no public hook between connect() and the TLS handshake.
            def _new_conn(self) -> Any:
                sock = super()._new_conn()
                exchange.add_socket(sock.fileno())
                return sock

        return Registered

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = registered(HTTPConnection)

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = registered(HTTPSConnection)

    return {"http": PlainPool, "https": TlsPool}

"""Who vouches for a host that is asked over HTTPS: the same as over wss, where an administrator names them."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any


def ca_bundle() -> str | bool:
    """The file or directory that the environment names, as ``requests`` takes it; ``True``: those it comes with. It
    looks there itself only where it may use the environment's proxies and passwords as well, which it may not."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True


class CancellableSession:
    """The sockets of one exchange. What is asked with ``session`` ends at once with ``cut``, from any thread and also
    in the middle of a TLS handshake; ``cut_after`` has it cut by itself. ``close`` gives back what the line holds, once
    the exchange is over."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def is_connected(self) -> bool:
        """Whether a host has taken a connection, and the line is not closed yet."""
        with self._lock:
            return bool(self._sockets)

    def session(self) -> Any:
        """A session of ``requests`` that uses nothing of the environment but the authorities that it names: no proxy
        and no ``.netrc``, for a key goes to the host that was named and to no other."""
        import requests  # 56 ms and 18 MB that only those pay who ask over HTTP

        session = requests.Session()
        session.trust_env = False
        session.verify = ca_bundle()
        adapter = requests.adapters.HTTPAdapter()
        adapter.poolmanager.pool_classes_by_scheme = _pools(self)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def cancel(self) -> None:
        with self._lock:
            self.is_cancelled = True
            for each in self._sockets:
                _shut(each)

    def cancel_after(self, seconds: float) -> None:
        """However little comes at a time, and however often. ``RuntimeError``: the system gives us no more threads."""
        timer = threading.Timer(seconds, self.cancel)
        timer.daemon = True
        timer.start()
        self._timer = timer

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def add_socket(self, number: int) -> None:
        """The exchange has opened a socket, ``number``."""
        # A descriptor of our own: the other one may be closed and given to somebody else by the time we hang up.
        own = socket.socket(fileno=os.dup(number))
        with self._lock:
            self._sockets.append(own)
            if self.is_cancelled:
                _shut(own)


def request_errors() -> tuple[type[Exception], ...]:
    """What the libraries let escape, each its own way, when an exchange does not come to its end. ``RuntimeError``: the
    system gives us no more threads."""
    import http.client

    import requests
    from urllib3.exceptions import HTTPError

    return (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError, RuntimeError)


def _shut(own: socket.socket) -> None:
    try:
        own.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker


def _pools(line: CancellableSession) -> dict[str, Any]:
    """The library's own connections, but that the line holds the socket of each before its TLS handshake."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    def held(connection: Any) -> Any:
        class Held(connection):  # type: ignore[misc]
            def _new_conn(self) -> Any:
                made = super()._new_conn()
                line.add_socket(made.fileno())
                return made

        return Held

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = held(HTTPConnection)

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = held(HTTPSConnection)

    return {"http": PlainPool, "https": EncryptedPool}

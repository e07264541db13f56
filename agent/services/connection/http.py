"""Provides cancellable HTTP exchanges that dial and check certificates in the same way as WebSocket connections."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from agent.errors import NameLookupError, ServiceError
from agent.services.connection.proxies import proxy_hint
from agent.services.connection.resolve import connect_first, resolve, socket_timeout
from agent.services.connection.tls import describe_certificate_error, is_certificate_error_permanent
from agent.system.threads import Deadline
from agent.system.tls import tls_context

_MAX_CAUSES = 30


class CancellableSession:
    """An HTTP exchange that another thread can cancel at any moment, also during the TLS handshake.

    Thread-safe, except the ``requests.Session``, which the requesting thread owns. Call ``close`` after the exchange.
    ``is_cancelled`` tells whether ``cancel`` was called.
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
        """Return a ``requests.Session`` that ignores proxies, ``.netrc`` and other settings of the environment.

        With these settings, a key could reach another host than the configured one.
        """
        import requests  # imported late, because it takes 56 ms and 18 MB and only HTTP needs it

        session = requests.Session()
        session.trust_env = False
        adapter = _adapter_class()()
        adapter.poolmanager.pool_classes_by_scheme = _pool_classes(self)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], deadline: Deadline, max_bytes: int
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request without a body; return status, headers and at most ``max_bytes`` of the body.

        The method does not import ``requests``, because a command that sends one small request would spend half of its
        time on the import. Redirects are not followed, because they would send the key to another host. A response
        with a content encoding is refused. The deadline limits DNS and TCP together, and afterwards each read; call
        ``cancel_after`` to limit the total time.

        Raises:
            Exception: One of ``request_errors()``.
        """
        import http.client

        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if is_secure else 80)
        sock = connect_first(resolve(host, port, deadline), deadline)
        connection = http.client.HTTPConnection(host, port)
        connection.default_port = 443 if is_secure else 80  # decides whether the header Host names the port
        try:
            self.add_socket(sock.fileno())
            sock.settimeout(socket_timeout(deadline))
            connection.sock = tls_context().wrap_socket(sock, server_hostname=host) if is_secure else sock
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request(method, target, body=b"", headers={"User-Agent": "voice-agent", **headers})
            response = connection.getresponse()
            if response.getheader("Content-Encoding", "identity") != "identity":
                raise ValueError("a content encoding that was not offered")
            body = response.read(max_bytes)
            if response.length and len(body) < max_bytes:
                raise http.client.IncompleteRead(body, response.length)
            return response.status, dict(response.getheaders()), body
        finally:
            connection.close()
            sock.close()

    def cancel(self) -> None:
        """End the exchange immediately. In the requesting thread, the request raises one of ``request_errors()``."""
        with self._lock:
            self.is_cancelled = True
            for each in self._sockets:
                _shutdown(each)

    def cancel_after(self, seconds: float) -> None:
        """Cancel the exchange after a total time in seconds.

        The timeout of a request does not limit the total time: it restarts with each received byte.

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
        """Register the descriptor of a socket that the exchange opened, so that ``cancel`` can shut it down."""
        # A duplicate: urllib3 may close its descriptor before cancel(), and the number may be in use again by then.
        duplicate = socket.socket(fileno=os.dup(descriptor))
        with self._lock:
            self._sockets.append(duplicate)
            if self.is_cancelled:
                _shutdown(duplicate)


def request_errors() -> tuple[type[Exception], ...]:
    """Return all exceptions that a failed or cancelled request may raise. Imports ``requests``.

    The exceptions of urllib3 and ``http.client`` are included, because ``requests`` does not translate all of them.
    ``RuntimeError`` means that the system cannot create more threads.
    """
    import http.client

    import requests
    from urllib3.exceptions import HTTPError

    return (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError, RuntimeError)


def describe_request_error(service: str, url: str, error: Exception) -> ServiceError | None:
    """Return the error for a request that failed before a response; ``None`` if the cause has no description here.

    The messages of the libraries are not quoted, because they contain URLs, and these may contain credentials.

    Args:
        service: Name of the service in the message.
        url: The URL of the request.
        error: One of ``request_errors()``.
    """
    import requests

    host = urlsplit(url).hostname or ""
    cause = root_cause(error)
    if isinstance(error, requests.ConnectTimeout):
        return ServiceError(service, f"{host} did not answer in time{proxy_hint(host)}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        message = f"{host} cannot be trusted: {describe_certificate_error(cause)}"
        return ServiceError(service, message, permanent=is_certificate_error_permanent(cause))
    if isinstance(cause, socket.gaierror):
        return NameLookupError(service, f"the name {host} was not found: {cause.strerror}{proxy_hint(host)}")
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return ServiceError(service, f"{host} did not answer: it closed the connection", transient=True)
    if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ssl.SSLError):
        return ServiceError(service, f"{host} cannot be reached: {cause.strerror}{proxy_hint(host)}")
    return None


def root_cause(error: BaseException) -> BaseException:
    """Return the first socket or TLS exception that ``error`` wraps, or ``error`` itself if it wraps none.

    The libraries wrap exceptions in several ways: as cause, context, ``reason`` or argument.
    """
    pending: list[object] = [error]
    seen: list[BaseException] = []
    while pending and len(seen) < _MAX_CAUSES:
        current = pending.pop(0)
        if not isinstance(current, BaseException) or current in seen:
            continue
        seen.append(current)
        # The class alone does not suffice: the exceptions of requests are OSErrors, too.
        if isinstance(current, OSError) and type(current).__module__ in ("builtins", "socket", "ssl", "http.client"):
            return current
        pending += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return error


def _shutdown(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the peer has closed the connection already


def _adapter_class() -> Any:
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            """Do nothing: requests would add the certificates of certifi to those of the pool's TLS context."""

    return Adapter


def _pool_classes(exchange: CancellableSession) -> dict[str, Any]:
    """Return urllib3 connection pools that use ``connect_first`` to dial and ``tls_context`` for TLS.

    Each socket is registered with ``exchange`` before its TLS handshake.
    """
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    def dialing(connection: Any) -> Any:
        class Dialing(connection):  # type: ignore[misc]
            # A private method: urllib3 has no public hook between connect() and the TLS handshake. Its own method tries
            # the addresses one after the other, each for the whole timeout.
            def _new_conn(self) -> Any:
                seconds = self.timeout if isinstance(self.timeout, int | float) else None
                deadline = Deadline(seconds)
                try:
                    sock = connect_first(resolve(self.host.strip("[]"), self.port, deadline), deadline)
                except TimeoutError as error:
                    raise ConnectTimeoutError(self, "no connection in time") from error
                except OSError as error:
                    raise NewConnectionError(self, "no connection") from error
                sock.settimeout(seconds)
                exchange.add_socket(sock.fileno())
                return sock

        return Dialing

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = dialing(HTTPConnection)

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = dialing(HTTPSConnection)

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "ssl_context": tls_context()})

    return {"http": PlainPool, "https": TlsPool}

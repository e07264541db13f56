"""The web frontend: accepts connections and serves each in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.config.secrets import Secret
from agent.errors import ConfigError
from agent.frontends.frontend import Frontend
from agent.frontends.web.settings import MIN_TOKEN_CHARACTERS, ListenAddress, WebSettings
from agent.pipeline.events import Event
from agent.system.tcp_listener import ACCEPT_PAUSE_SECONDS, RETRY_SECONDS, TcpListener
from agent.system.threads import Deadline, Mailbox

if TYPE_CHECKING:
    import ssl

    from agent.frontends.web.access import Access
    from agent.frontends.web.connection import HttpTiming
    from agent.frontends.web.routes import Site

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
BACKLOG = 128
"""Maximum number of connections that the kernel holds until they are accepted. With a full backlog a client waits for a
second before it tries again."""

SEND_BUFFER_BYTES = 128 * 1024
"""Size of the send buffer of the kernel for one connection. By default Linux holds megabytes for a client that does not
read."""

MAX_WAIT_SECONDS = 5.0
ABORT_SECONDS = 0.2


class _Signal(Enum):
    STOP_ACCEPTING = auto()
    STOP = auto()
    ABORT = auto()


class WebServer(Frontend):
    """Serves HTTP or HTTPS. The web thread accepts connections; each connection has its own thread and one request.

    Above ``MAX_CONNECTIONS`` connections, a new connection is closed immediately. The public methods are thread-safe.
    Everything else is owned by the web thread, except the table of connections, which a lock guards.

    Args:
        settings: The configuration; ``listen`` is an address.
        report: Receives a crash of the web thread as an event.
        make_site: Makes the site. Called by the web thread, to keep its imports out of the start of the daemon.
        expire: Called by the web thread at least every 5 s, to complete texts whose next piece is overdue.
        timing: The timeouts of each connection.
        flush_seconds: Maximum time for which the thread waits, after ``stop``, until the connections have sent their
            responses.
        retry_seconds: Interval between attempts to listen while the address cannot be used.
    """

    def __init__(
        self,
        settings: WebSettings,
        report: Callable[[Event], None],
        make_site: Callable[[Access], Site],
        *,
        expire: Callable[[], None] = lambda: None,
        timing: HttpTiming | None = None,
        flush_seconds: float = 0.5,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        super().__init__("web", report)
        address = settings.address
        assert address is not None
        self._settings, self._address = settings, address
        self._make_site, self._expire = make_site, expire
        self._timing, self._flush_seconds = timing, flush_seconds
        self._token: str | None = None
        self._tls: ssl.SSLContext | None = None
        self._listener = TcpListener("web", address, "web.listen", backlog=BACKLOG, retry_seconds=retry_seconds)
        self._mailbox: Mailbox[_Signal] = Mailbox()
        self._end: _Signal | None = None
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}

    # --- any thread

    def open(self) -> None:
        self._token = self._settings.token.reveal()
        _check_token(self._token, self._address, self._settings.token)
        if self._settings.certificate is not None:
            self._tls = _make_tls(self._settings)
        self._listen()

    def stop_accepting(self) -> None:
        if self.ident is None:
            self._listener.close()
        self._mailbox.put(_Signal.STOP_ACCEPTING)

    def stop(self) -> None:
        self._mailbox.put(_Signal.STOP)

    def abort(self) -> None:
        self._mailbox.put(_Signal.ABORT)
        self._shut_connections()  # the web thread may already be waiting for the connections

    # --- the web thread

    def run(self) -> None:
        # Imported here, in the web thread, which starts its work after the daemon has reported READY.
        from agent.frontends.web.access import Access
        from agent.frontends.web.connection import HttpTiming

        self._timing = self._timing or HttpTiming()
        self._access = Access(
            self._token,
            self._settings.origins,
            is_secure=self._tls is not None,
            is_loopback=self._address.is_loopback,
        )
        self._site = self._make_site(self._access)
        try:
            while self._end is None:
                self.heartbeat()
                self._poll()
        finally:
            self._listener.close()
            self._end_connections(self._flush_seconds if self._end is _Signal.STOP else 0.0)
            self._mailbox.close()

    def _poll(self) -> None:
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        if self._listener.is_retry_due:
            self._listen()
        wait_seconds = min(MAX_WAIT_SECONDS, self._listener.register(poll))
        ready = dict(poll.poll(wait_seconds * 1000 + 1))
        self._expire()
        for signal in self._mailbox.take():
            self._listener.close()
            self._end = signal if signal is not _Signal.STOP_ACCEPTING else self._end
        if self._listener.fileno() in ready:
            for _ in range(BACKLOG):
                if not self._accept():
                    break

    # --- the listener

    def _listen(self) -> None:
        """Listen at the address. While it cannot be used, the web thread tries again, and the daemon still runs."""
        if not self._listener.open():
            return
        scheme = "http" if self._tls is None else "https"
        log.info("web: listening, url=%s://%s/, token=%s", scheme, self._address, "set" if self._token else "none")

    def _accept(self) -> bool:
        """Accept one connection. Returns whether another connection may be pending."""
        if (client := self._listener.accept()) is None:
            return False
        connected, peer = client
        thread = threading.Thread(target=self._serve, args=(connected, peer[0]), name="web-connection", daemon=True)
        with self._lock:
            is_full = len(self._connections) >= MAX_CONNECTIONS
            if not is_full:
                self._connections[thread] = connected
        if is_full:
            connected.close()
            return True
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("web: cannot serve, %s, retry in %g s", error, ACCEPT_PAUSE_SECONDS)
            self._listener.pause()
            self._forget(thread, connected)
            return False
        return True

    def _end_connections(self, flush_seconds: float) -> None:
        """End the event streams, wait until the other connections have sent their responses, and shut down the rest."""
        self._site.end()
        self._join(Deadline(flush_seconds))
        self._shut_connections()
        self._join(Deadline(ABORT_SECONDS))

    def _shut_connections(self) -> None:
        with self._lock:
            for connected in self._connections.values():
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)  # ends a call that waits for the client

    def _join(self, deadline: Deadline) -> None:
        with self._lock:
            threads = list(self._connections)
        for thread in threads:
            thread.join(deadline.remaining())

    # --- the thread of a connection

    def _serve(self, connected: socket.socket, peer: str) -> None:
        from agent.frontends.web.connection import HttpConnection

        assert self._timing is not None
        deadline = Deadline(self._timing.request_seconds)
        thread, served = threading.current_thread(), connected
        try:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # header and body are two writes
            if self._tls is not None:
                connected.settimeout(deadline.remaining())
                served = self._tls.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._connections[thread] = served
                served.do_handshake()
            HttpConnection(served, peer, self._access, self._site.route, self._timing, deadline)
        except OSError as error:  # includes errors of TLS
            log.debug("web: connection ended, peer=%s, %s", peer, error)
        except Exception:  # noqa: BLE001 - one request must not end the daemon
            log.exception("web: a request failed, peer=%s", peer)
        finally:
            self._forget(thread, served)

    def _forget(self, thread: threading.Thread, connected: socket.socket) -> None:
        with self._lock:
            self._connections.pop(thread, None)
        connected.close()


def _check_token(token: str | None, address: ListenAddress, secret: Secret) -> None:
    if token is None and not address.is_loopback:
        place = f"the file {secret.places()[-1]}" if secret.places() else secret.origin
        raise ConfigError(
            f"web.listen is {address}, which other machines reach, and there is no token: store one in {place}, for"
            " example from openssl rand -hex 16, or listen on 127.0.0.1"
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise ConfigError(
            f"web.token has {len(token)} characters, expected at least {MIN_TOKEN_CHARACTERS}: create one with"
            " openssl rand -hex 16"
        )


def _make_tls(settings: WebSettings) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert settings.certificate is not None
    try:
        # For an encrypted key OpenSSL would ask for the password at the terminal. An empty password prevents this.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            f"web.certificate {settings.certificate} and web.key {settings.key} cannot be used: {reason}. Check that"
            " both are PEM files that belong together, that this user may read them and that the key has no password"
        ) from error
    return context

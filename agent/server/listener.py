"""Serves all WebSocket and HTTP protocols on one port, enforces their limits and shuts down gracefully."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from agent.errors import ConfigError
from agent.server import http
from agent.server.acceptor import RETRY_SECONDS, Acceptor
from agent.server.connection import ClientConnection, disconnect
from agent.server.options import ServerOptions
from agent.server.recognition_load import RecognitionLoad
from agent.server.recordings import RecordingStore
from agent.server.stt.engine import SttEngine
from agent.server.stt_session import SttServerSession
from agent.server.tts.engine import TtsEngine
from agent.server.tts_session import TtsServerSession
from agent.server.wire_log import WireLog
from agent.services.protocols import transcription
from agent.services.protocols.codec import Failure, Server, ServerSide, TtsService
from agent.services.protocols.handshake import parse_target
from agent.services.registry import served
from agent.system.named_tuple import NamedTuple
from agent.system.ports import describe_port_owner
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 << 20
DEFAULT_MAX_HANDSHAKES = 64
_PING_SECONDS, _PONG_SECONDS = 20.0, 60.0
_CLOSE_SECONDS = 1.0
_MAX_SMALL_RESPONSE_BYTES = 65536
"""A larger response is an export of audio; it counts as a session while it is sent."""


class ListenerTiming(NamedTuple):
    """Time limits of the listener, in seconds. Immutable.

    Args:
        handshake_seconds: Time from accepting a connection to the end of its opening handshake.
        send_seconds: Time after which a client that reads nothing is disconnected.
        retry_seconds: Delay before the next attempt to accept a client if no descriptor, memory or thread is free.
    """

    handshake_seconds: float = 5.0
    send_seconds: int = 300
    retry_seconds: float = RETRY_SECONDS


class Listener:
    """Serves all WebSocket and HTTP protocols on one port from its construction until ``stop``. Thread-safe.

    The path of a request selects the protocol. At most ``options.clients`` sessions run at the same time; a further
    client gets status 503. A connection counts as a session only after its opening handshake. If more than
    ``max_handshakes`` connections are in their handshake, the oldest of them is disconnected, so that silent
    connections cannot lock out clients. A message may have at most 8 MiB, unless the service sets its own limit.

    Args:
        options: Address, limits and keys.
        tts_engine: Engine that speaks.
        stt_engine: Engine that recognizes speech.
        wire_log: Log of all messages.
        timing: Time limits.
        max_handshakes: Number of connections that may be in their opening handshake at the same time.
        load: Admits clients of the recognizer; shared with the other listeners of the process.

    Raises:
        ConfigError: The address cannot be used.
    """

    def __init__(
        self,
        options: ServerOptions,
        tts_engine: TtsEngine,
        stt_engine: SttEngine,
        wire_log: WireLog,
        timing: ListenerTiming | None = None,
        max_handshakes: int = DEFAULT_MAX_HANDSHAKES,
        load: RecognitionLoad | None = None,
    ) -> None:
        self._options, self._tts_engine, self._stt_engine, self._wire_log = options, tts_engine, stt_engine, wire_log
        self._timing, self._max_handshakes = timing or ListenerTiming(), max_handshakes
        self._services = [(service, _server_side(service, options)) for service in served()]
        self._recordings = RecordingStore()
        self._load = load or RecognitionLoad(len(os.sched_getaffinity(0)))
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        # The library does not report the end of a handshake: closed sockets stay in the next two attributes until the
        # next connection.
        self._handshakes: dict[socket.socket, float] = {}  # connections before their session, and their expiry
        self._admitted: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._sessions: dict[int, TtsServerSession | SttServerSession] = {}
        self._is_stopping = False
        server_socket = listen(options.host, options.port, "server.port, and the same in transcription.url")
        self.address: tuple[str, int] = server_socket.getsockname()[:2]
        self._server = serve(
            self._serve,  # type: ignore[arg-type]  # the factory below makes each connection a ClientConnection
            sock=server_socket,
            create_connection=cast("type[ServerConnection]", self._open_connection),
            process_request=self._process_request,  # type: ignore[arg-type]  # as above
            process_response=_add_extension_headers,  # type: ignore[arg-type]  # as above
            compression=None,  # no service offers it; without it, no small message expands into a huge one
            server_header="voice-agent",
            open_timeout=self._timing.handshake_seconds,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PONG_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
            logger=logging.getLogger("agent.server.websockets"),
        )
        # Not serve_forever(): it ends at the first error of accept() or of a thread start.
        self._acceptor = Acceptor(server_socket, self._start_client, "speech server", self._timing.retry_seconds)

    def stop(self, finish: Deadline, abort: Deadline) -> bool:
        """Stop accepting, finish all sessions and wait for their threads. Idempotent.

        Args:
            finish: Deadline at which the remaining sessions are aborted.
            abort: Deadline at which the wait for the threads ends.

        Returns:
            Whether all threads have ended.
        """
        with self._lock:
            is_first, self._is_stopping = not self._is_stopping, True
        self._load.close()
        self._acceptor.stop()
        has_stopped_accepting = self._acceptor.join(abort.remaining())
        closing = threading.Thread(target=self._join_clients, args=(is_first,), name="closing")
        closing.start()
        with self._lock:
            # An admitted client may already have the response to its handshake. It is not disconnected here: its
            # session starts, finishes at once and ends with a close frame.
            handshakes = [client for client in self._handshakes if client not in self._admitted]
            sessions = list(self._sessions.values())
        for client in handshakes:
            disconnect(client)
        for session in sessions:
            threading.Thread(target=session.finish, name="finish", daemon=True).start()
        closing.join(finish.remaining())
        if closing.is_alive():
            with self._lock:
                sessions = list(self._sessions.values())
                admitted = list(self._admitted)
            log.warning("speech server: sessions aborted after the shutdown timeout, sessions=%d", len(sessions))
            for session in sessions:
                session.abort()
            for client in admitted:
                disconnect(client)  # includes the clients that download an export
            closing.join(abort.remaining())
        self._recordings.close()
        return not closing.is_alive() and has_stopped_accepting

    def _join_clients(self, is_first: bool) -> None:
        if is_first:
            # The listening socket is closed, so serve_forever() returns. Both calls release the library's sockets.
            with contextlib.suppress(OSError):  # no free descriptor; the process ends soon
                self._server.serve_forever()
                self._server.shutdown(close_connections=False)
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    # --- accepting

    def _start_client(self, client: socket.socket, address: Any) -> None:
        thread = threading.Thread(target=self._server.handler, args=(client, address), name="client")
        with self._lock:  # stop() joins the registered threads, and only a started thread can be joined
            thread.start()
            self._threads.add(thread)

    def _open_connection(self, client: socket.socket, *args: Any, **kwargs: Any) -> ClientConnection:
        """Create the connection of an accepted socket; the library calls this method in the connection's thread.

        The library gets only requests for a WebSocket; this method answers all other requests itself. The library
        would reject other methods than GET, requests with a body and clients that have ended their sending side, and
        it sends a response for at most one second. Peeking leaves the request in the socket, for the library to read.

        Raises:
            ConnectionAbortedError: The connection is over; the library then closes the socket.
        """
        if not self._admit_handshake(client):
            raise ConnectionAbortedError("too many connections, or the server is stopping")
        send_timeout = struct.pack("ll", self._timing.send_seconds, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, send_timeout)
        deadline = Deadline(self._timing.handshake_seconds)
        head = http.peek_head(client, deadline)
        if not http.requests_upgrade(head):
            if head:
                self._serve_plain_http(client, deadline)
            raise ConnectionAbortedError("not a request for a WebSocket")
        client.settimeout(None)
        return ClientConnection(client, *args, **kwargs)

    def _admit_handshake(self, client: socket.socket) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._is_stopping:
                # stop() may have disconnected the handshakes already; it would then wait for this one.
                return False
            self._handshakes = {each: expiry for each, expiry in self._handshakes.items() if each.fileno() >= 0}
            expired = [each for each, expiry in self._handshakes.items() if expiry < now]
            while len(self._handshakes) - len(expired) >= self._max_handshakes:
                expired.append(next(each for each in self._handshakes if each not in expired))
            for each in expired:
                del self._handshakes[each]
                disconnect(each)
            self._handshakes[client] = now + self._timing.handshake_seconds
            # The thread of a disconnected handshake does not end immediately. The limit on threads bounds their number
            # during a flood of connections.
            self._threads = {thread for thread in self._threads if thread.is_alive()}
            return len(self._threads) <= self._options.clients + 4 * DEFAULT_MAX_HANDSHAKES

    def _admit_session(self, client: socket.socket) -> bool:
        with self._lock:
            self._admitted = {each for each in self._admitted if each.fileno() >= 0}
            is_free = len(self._admitted) < self._options.clients and not self._is_stopping
            if is_free:
                self._admitted.add(client)
            return is_free

    def _serve_plain_http(self, client: socket.socket, deadline: Deadline) -> None:
        request = http.read_request(client, deadline)
        if request is None:
            return
        has_body = True
        if isinstance(request, http.PlainRequest):
            has_body = request.method != "HEAD"
            self._wire_log.note(0, "http", "in", request.method.lower(), request.target.partition("?")[0])
            request = self._respond_to(request)
        self._respond(client, request, has_body)

    def _respond_to(self, request: http.PlainRequest) -> http.PlainResponse:
        if request.method in ("GET", "HEAD"):
            response = self._get(request.target, request.headers)
            return response or http.text(426, "this path requires a WebSocket", {"Upgrade": "websocket"})
        if request.method not in ("POST", "OPTIONS"):
            return http.text(405, "this server supports GET, HEAD, POST and OPTIONS", {"Allow": http.METHODS})
        path = _path(request.target)
        for service, side in self._services:
            if side.respond is not None and path in service.http_paths:
                grants = http.cors_fields(request.headers, self._options.allow_origins)
                if request.method == "OPTIONS":
                    return http.PlainResponse(204, {"Allow": "POST, OPTIONS", **grants})
                base_url = http.base_url(request.headers, self.address)
                status, fields, body = side.respond(base_url, request.method, request.target, request.headers)
                return http.PlainResponse(status, {**fields, **grants}, body)
        return http.as_json(404, {"error": "no such path"})

    def _get(self, target: str, headers: Mapping[str, str]) -> http.PlainResponse | None:
        """Return the response to a GET request; ``None`` if the path requires an upgrade to a WebSocket protocol."""
        response = http.get(target, headers, self._recordings, self._options.keys.get(transcription.NAME))
        if response is None and not self._is_protocol_path(target):
            return http.text(404, "there is nothing at this path")
        return response

    def _respond(self, client: socket.socket, response: http.PlainResponse, has_body: bool) -> None:
        data = response.encoded(has_body)
        timeout_seconds = self._timing.handshake_seconds
        if len(data) > _MAX_SMALL_RESPONSE_BYTES:
            if not self._admit_session(client):
                data = _too_many_clients().encoded()
            else:
                timeout_seconds = self._timing.send_seconds
                with self._lock:
                    self._handshakes.pop(client, None)  # a slow client may read for a long time
        try:
            http.send_all(client, data, timeout_seconds)
            client.shutdown(socket.SHUT_WR)
            # Read the rest of the client's data: closing a socket with unread data sends RST (RFC 2525, 2.17), which
            # discards the response on the client's side.
            deadline = Deadline(1.0)
            for _ in range(64):
                ready, _, _ = select.select([client], [], [], deadline.remaining())
                if not ready or not client.recv(65536):
                    return
        except OSError:
            return

    # --- upgrading

    def _process_request(self, connection: ClientConnection, request: Request) -> Response | None:
        """Return the response to a request for an HTTP route or to a request that cannot become a session.

        Returns ``None`` to upgrade the connection. The library calls this method during the handshake.
        """
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        response = self._get(request.path, headers)
        if response is None:
            codec, side = self._codec(request.path)
            failure = codec.handshake(request.path, headers)
            if failure is None and self._admit_session(connection.client_socket):
                connection.codec, connection.side = codec, side
                if side is not None and side.max_message_bytes is not None:
                    connection.protocol.max_message_size = side.max_message_bytes
                return None
            response = _too_many_clients() if failure is None else _rejection(failure)
        self._wire_log.note(0, "http", "out", str(response.status), request.path.partition("?")[0])
        return Response(response.status, response.reason, Headers(response.fields()), response.body)

    def _codec(self, target: str) -> tuple[Server, ServerSide | None]:
        """Return a codec and the server side of the speech service at this path.

        Any other path selects the transcription service (``/``), which has no ``ServerSide``.
        """
        for service, side in self._services:
            if any(service.speaks_at(path) for path in _spellings(target)):
                return side.codec(), side
        return transcription.Server(self._options.keys.get(transcription.NAME)), None

    def _is_protocol_path(self, target: str) -> bool:
        """Return whether a WebSocket protocol is served at this path; a slash at the end is ignored."""
        paths = _spellings(target)
        return paths[0] == "/" or any(service.speaks_at(path) for service, _ in self._services for path in paths)

    def _serve(self, connection: ClientConnection) -> None:
        codec = connection.codec
        number = next(self._numbers)
        threading.current_thread().name = f"client {number}"
        session: TtsServerSession | SttServerSession
        if isinstance(codec, transcription.Server):
            session = SttServerSession(
                number, connection, codec, self._stt_engine, self._recordings, self._wire_log, self._load
            )
        else:
            side = connection.side or ServerSide(lambda: codec)
            session = TtsServerSession(number, connection, codec, side, self._tts_engine, self._options, self._wire_log)
        with self._lock:
            self._handshakes.pop(connection.client_socket, None)
            self._sessions[number] = session
            is_stopping = self._is_stopping
        path = connection.request.path.partition("?")[0] if connection.request else ""
        self._wire_log.note(number, codec.service, "in", "open", path)
        log.info("speech server: client connected, service=%s, client=%d", codec.service, number)
        if is_stopping:
            session.finish()
        try:
            session.run()
        finally:
            with self._lock:
                del self._sessions[number]
            self._wire_log.note(number, codec.service, "in", "close", str(connection.close_code))
            log.info("speech server: client disconnected, service=%s, client=%d", codec.service, number)


def _add_extension_headers(connection: ClientConnection, request: Request, response: Response) -> None:
    """Add the headers that tell a client of the transcription service which extensions this server supports."""
    if response.status_code == 101 and isinstance(connection.codec, transcription.Server):
        for name, value in (transcription.LATE_ANSWERS, transcription.EARLY_FINALS):
            response.headers[name] = value


def _path(target: str) -> str:
    parsed = parse_target(target)
    return parsed[0] if parsed else ""


def _spellings(target: str) -> tuple[str, str]:
    path = _path(target)
    return path, path.rstrip("/")


def listen(host: str, port: int, key: str) -> socket.socket:
    """Return a listening socket.

    Args:
        host: The address.
        port: The port.
        key: Configuration key of the port, for the error message.

    Raises:
        ConfigError: The address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=64)
    except (OSError, OverflowError) as error:
        # Not str(error): create_server() appends the address as a Python tuple.
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number and number > 0 else str(error)
        if number == errno.EADDRINUSE:
            reason = f"{reason} by {describe_port_owner(port)}"
        raise ConfigError(
            f"the speech server cannot listen on {host}:{port} ({reason}): choose another server.host or {key}"
        ) from error


def _server_side(service: TtsService, options: ServerOptions) -> ServerSide:
    assert service.server is not None
    return service.server(options.keys.get(service.name), options.service_options)


def _too_many_clients() -> http.PlainResponse:
    return http.text(503, "too many clients", {"Retry-After": "1"})


def _rejection(failure: Failure) -> http.PlainResponse:
    status = failure.status or 400
    return http.as_json(status, {"message": f"{failure.received}; expected {failure.expected}", "status": status})

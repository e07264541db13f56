"""The one port: accepts, tells the five protocols apart by their paths, keeps the limits, and ends in good order."""

from __future__ import annotations

import itertools
import logging
import os
import select
import socket
import struct
import threading
import time
from datetime import UTC, datetime
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from agent.errors import ConfigError
from agent.server import http
from agent.server.options import Options
from agent.server.recordings import Exports
from agent.server.stt.engine import SttEngine
from agent.server.stt_session import Listening
from agent.server.tts.engine import TtsEngine
from agent.server.tts_session import Speaking
from agent.server.wire_log import WireLog
from agent.services.protocols import fish, neuphonic, playai, transcription, vachana
from agent.services.protocols.codec import Failure
from agent.services.protocols.handshake import read_target
from agent.services.protocols.playai_auth import MODEL_PATHS, AuthorizationServer, Tokens
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MESSAGE_BYTES = 8 << 20
OPEN_SECONDS = 5.0
OPENINGS = 64
_PING_SECONDS, _PONG_SECONDS = 20.0, 60.0
_CLOSE_SECONDS = 1.0
_STALLED_SECONDS = 300

ServerCodec = neuphonic.Server | playai.Server | vachana.Server | fish.Server | transcription.Server


class Listener:
    """Serves everything from its making until ``stop``. ``address`` is where it listens.

    At most ``options.clients`` sessions at once: more get 503. A connection takes a seat only when its opening
    handshake is done; for that it has 5 s, and where more than ``OPENINGS`` are at it the oldest is dropped, so that
    nobody keeps the others out by connecting and saying nothing. A message is 8 MiB at most. A client that takes
    nothing of what is sent to it for five minutes is dropped. Raises ``ConfigError`` where the address cannot be used.
    """

    def __init__(self, options: Options, engine: TtsEngine, recogniser: SttEngine, wire: WireLog) -> None:
        self._options, self._engine, self._recogniser, self._wire = options, engine, recogniser, wire
        self._tokens = Tokens(time.time)
        self._exports = Exports()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._opening: dict[socket.socket, float] = {}  # accepted, and not yet a session; until when it may be one
        self._seated: set[socket.socket] = set()
        self._sessions: dict[int, Speaking | Listening] = {}
        self._ending = False
        try:
            family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
            listening = socket.create_server((options.host, options.port), family=family, backlog=64)
        except (OSError, OverflowError) as error:
            where = f"{options.host}:{options.port}"
            # Not the error's own text, which repeats the address in Python's words.
            number = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(number) if number and number > 0 else error
            raise ConfigError(
                f"the speech server cannot listen on {where} ({reason}): choose another server.host or server.port,"
                " and the same in transcription.url"
            ) from error
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self._server = serve(
            self._serve,
            sock=listening,
            process_request=self._request,
            compression=None,  # none of the services offers it, and a small message cannot become a huge one
            server_header="voice-agent",
            open_timeout=OPEN_SECONDS,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PONG_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            max_size=MESSAGE_BYTES,
            logger=logging.getLogger("agent.server.websockets"),
        )
        self._upgrade = self._server.handler
        self._server.handler = self._accept
        self._acceptor = threading.Thread(target=self._server.serve_forever, name="accept")
        self._acceptor.start()

    def stop(self, finish: Deadline, abort: Deadline) -> bool:
        """Stops accepting, lets every session finish until ``finish``, cuts the rest, and waits for all threads until
        ``abort``. Tells whether all have ended."""
        self._ending = True
        closing = threading.Thread(target=self._server.shutdown, args=(False,), name="closing")
        closing.start()
        self._server.socket_closed.wait(abort.remaining())
        with self._lock:
            opening, sessions = list(self._opening), list(self._sessions.values())
        for client in opening:
            _cut(client)
        finishing = [threading.Thread(target=session.finish, name="finish", daemon=True) for session in sessions]
        for thread in finishing:
            thread.start()
        closing.join(finish.remaining())
        if closing.is_alive():
            with self._lock:
                sessions = list(self._sessions.values())
            log.warning("%d sessions did not end in time and are cut", len(sessions))
            for session in sessions:
                session.abort()
            closing.join(abort.remaining())
        self._acceptor.join(abort.remaining())
        self._exports.close()
        return not closing.is_alive() and not self._acceptor.is_alive()

    # --- accepting

    def _accept(self, client: socket.socket, address: Any) -> None:
        """The life of one connection, in a thread of its own. The WebSocket library reads GET only, so what begins
        otherwise is answered here; the first byte tells, and stays where it is."""
        try:
            if not self._may_open(client):
                return
            _limit(client)
            deadline = Deadline(OPEN_SECONDS)
            first = _first_byte(client, deadline)
            if first == b"G":
                client.settimeout(None)
                self._upgrade(client, address)
            elif first:
                self._plain(client, deadline)
        finally:
            with self._lock:
                self._seated.discard(client)
                self._opening.pop(client, None)
            client.close()
            with self._server.lock:
                self._server.handler_threads.discard(threading.current_thread())

    def _may_open(self, client: socket.socket) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._ending:
                return False  # who comes in now has been missed by the one who cuts those that are opening
            late = [each for each, until in self._opening.items() if until < now]
            while len(self._opening) - len(late) >= OPENINGS:
                late.append(next(each for each in self._opening if each not in late))
            for each in late:
                del self._opening[each]
                _cut(each)
            self._opening[client] = now + OPEN_SECONDS
        # Those that are cut need a moment to go; that many at once are no clients.
        with self._server.lock:
            return len(self._server.handler_threads) <= self._options.clients + 4 * OPENINGS

    def _seat(self, client: socket.socket) -> bool:
        with self._lock:
            free = len(self._seated) < self._options.clients and not self._ending
            if free:
                self._seated.add(client)
            return free

    def _plain(self, client: socket.socket, deadline: Deadline) -> None:
        request = http.read_request(client, deadline)
        if request is None:
            return
        if isinstance(request, http.Request):
            self._wire.note(0, "http", "in", request.method.lower(), request.target.partition("?")[0])
            if request.method not in ("POST", "GET"):
                _answer(client, http.text(405, "this server knows GET and POST", {"Allow": "GET, POST"}))
                return
            keys = self._options.keys
            authorization = AuthorizationServer(
                http.base_url(request.headers, self.address),
                self._tokens,
                api_key=keys.playai,
                user_id=keys.playai_user,
            )
            request = http.Answer(*authorization.receive(request.method, request.target, request.headers))
        _answer(client, request)

    # --- upgrading

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers a GET that is none of WebSocket's, refuses what a codec refuses, and lets the rest be upgraded."""
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        answer = http.get(request.path, headers, self._exports, self._options.keys.transcription)
        if answer is None and "upgrade" in headers:
            codec = self._codec(request.path)
            refused = codec.handshake(request.path, headers)
            if refused is None and self._seat(connection.socket):
                connection.codec = codec  # type: ignore[attr-defined]
                return None
            full = http.text(503, "too many clients at once", {"Retry-After": "1"})
            answer = full if refused is None else _refusal(refused)
        if answer is None and not _is_known(request.path):
            answer = http.text(404, "there is nothing at this path")
        if answer is None:
            return None
        self._wire.note(0, "http", "out", str(answer.status), request.path.partition("?")[0])
        fields = {**answer.headers, "Content-Length": str(len(answer.body)), "Connection": "close"}
        return Response(answer.status, answer.reason, Headers(fields), answer.body)

    def _codec(self, target: str) -> ServerCodec:
        found = read_target(target)
        path = found[0] if found else "/"
        keys, options = self._options.keys, self._options
        if path.startswith("/speak/"):
            return neuphonic.Server(keys.neuphonic, timestamp=_timestamp, stop_flags=options.stop_flags)
        if path.rstrip("/") == vachana.PATH:
            return vachana.Server(keys.vachana, binary=options.vachana_binary)
        if path == fish.PATH:
            return fish.Server(keys.fish, clock=time.monotonic)
        if path in MODEL_PATHS.values():
            return playai.Server(self._tokens)
        return transcription.Server(keys.transcription)

    def _serve(self, connection: ServerConnection) -> None:
        codec: ServerCodec = connection.codec  # type: ignore[attr-defined]
        number = next(self._numbers)
        threading.current_thread().name = f"client {number}"  # as the log names it
        session: Speaking | Listening
        if isinstance(codec, transcription.Server):
            session = Listening(number, connection, codec, self._recogniser, self._exports, self._wire)
        else:
            session = Speaking(number, connection, codec, self._engine, self._options, self._wire)
        with self._lock:
            self._opening.pop(connection.socket, None)
            self._sessions[number] = session
            ending = self._ending
        path = connection.request.path.partition("?")[0] if connection.request else ""
        self._wire.note(number, codec.service, "in", "open", path)
        log.info("%s client %d has come", codec.service, number)
        if ending:
            session.finish()
        try:
            session.run()
        finally:
            with self._lock:
                del self._sessions[number]
            self._wire.note(number, codec.service, "in", "close", str(connection.close_code))
            log.info("%s client %d has gone", codec.service, number)


def _is_known(target: str) -> bool:
    """Whether it is the address of a protocol. A transcription is taken at any path, but only from who upgrades."""
    found = read_target(target)
    path = found[0] if found else ""
    known = {"/", vachana.PATH, fish.PATH, *MODEL_PATHS.values()}
    return path.startswith("/speak/") or (path.rstrip("/") or "/") in known


def _refusal(failure: Failure) -> http.Answer:
    status = failure.status or 400
    return http.as_json(status, {"message": f"{failure.came}; expected {failure.expected}", "status": status})


def _limit(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _STALLED_SECONDS, 0))


def _first_byte(client: socket.socket, deadline: Deadline) -> bytes:
    client.settimeout(deadline.remaining())
    try:
        return client.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""


def _answer(client: socket.socket, answer: http.Answer) -> None:
    client.settimeout(OPEN_SECONDS)
    try:
        client.sendall(answer.encoded())
        client.shutdown(socket.SHUT_WR)
        # What the client is still sending has to be read: closing on unread bytes would make the answer vanish.
        deadline = Deadline(1.0)
        for _ in range(64):
            ready, _, _ = select.select([client], [], [], deadline.remaining())
            if not ready or not client.recv(65536):
                return
    except OSError:
        return


def _cut(client: socket.socket) -> None:
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _timestamp() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat()

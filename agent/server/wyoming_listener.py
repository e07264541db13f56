"""Accepts Wyoming clients on a separate port, limits their number and shuts down gracefully."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading

from agent.server.acceptor import Acceptor
from agent.server.listener import listen
from agent.server.options import ServerOptions
from agent.server.recognition_load import RecognitionLoad
from agent.server.stt.engine import SttEngine
from agent.server.tts.engine import TtsEngine
from agent.server.wire_log import WireLog
from agent.server.wyoming_info import describe
from agent.server.wyoming_session import SessionTiming, WyomingSession
from agent.services.protocols.wyoming_event import encode_event
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

_LINGER_SECONDS = 1.0


class WyomingListener:
    """Serves Wyoming from its construction until ``stop``. Thread-safe.

    At most ``options.clients`` clients are served at the same time; a further client gets an ``error`` event.

    Args:
        options: Address and limits; ``options.wyoming`` is the port.
        tts_engine: Engine that speaks, as for ``Listener``.
        stt_engine: Engine that recognizes speech.
        load: Admits speech if it can be recognized in real time; shared with ``Listener``.
        wire_log: Log of all messages.
        timing: Time limits of a session.

    Raises:
        ConfigError: The address cannot be used.
    """

    def __init__(
        self,
        options: ServerOptions,
        tts_engine: TtsEngine,
        stt_engine: SttEngine,
        load: RecognitionLoad,
        wire_log: WireLog,
        timing: SessionTiming = SessionTiming(),  # noqa: B008 - immutable
    ) -> None:
        assert options.wyoming is not None
        self._options, self._tts_engine, self._stt_engine = options, tts_engine, stt_engine
        self._load, self._wire_log, self._timing = load, wire_log, timing
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._sessions: dict[WyomingSession, threading.Thread] = {}
        self._is_stopping = False
        self._info: bytes | None = None
        self._info_lock = threading.Lock()
        server_socket = listen(options.host, options.wyoming, "server.wyoming")
        self.address: tuple[str, int] = server_socket.getsockname()[:2]
        self._acceptor = Acceptor(server_socket, self._admit, "wyoming server")

    def stop(self, finish: Deadline, abort: Deadline) -> bool:
        """Stop accepting, let the sessions answer the received events, and wait for their threads. Idempotent.

        Args:
            finish: Deadline at which the remaining sessions are aborted.
            abort: Deadline at which the wait for the threads ends.

        Returns:
            Whether all threads have ended.
        """
        with self._lock:
            self._is_stopping = True
            sessions = dict(self._sessions)
        self._acceptor.stop()
        for session in sessions:
            session.finish()
        threads = list(sessions.values())
        has_stopped_accepting = self._acceptor.join(finish.remaining())
        for thread in threads:
            thread.join(finish.remaining())
        running = [session for session, thread in sessions.items() if thread.is_alive()]
        if running:
            log.warning("wyoming server: sessions aborted after the shutdown timeout, sessions=%d", len(running))
            for session in running:
                session.abort()
            for thread in threads:
                thread.join(abort.remaining())
        return has_stopped_accepting and not any(thread.is_alive() for thread in threads)

    def _admit(self, client: socket.socket, address: object) -> None:
        number = next(self._numbers)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        session = WyomingSession(
            number, client, self._tts_engine, self._stt_engine, self._load, self._describe, self._wire_log, self._timing
        )
        thread = threading.Thread(target=self._serve, args=(number, client, session), name=f"wyoming {number}")
        is_served = False
        with self._lock:  # stop() joins the registered threads, and only a started thread can be joined
            if len(self._sessions) < self._options.clients and not self._is_stopping:
                with contextlib.suppress(RuntimeError):  # the system cannot create more threads
                    thread.start()
                    self._sessions[session] = thread
                    is_served = True
        if not is_served:
            log.warning("wyoming server: client refused, too many clients or threads")
            _refuse(client)

    def _serve(self, number: int, client: socket.socket, session: WyomingSession) -> None:
        self._wire_log.note(number, "wyoming", "in", "open", "")
        log.info("wyoming server: client connected, client=%d", number)
        try:
            session.run()
        finally:
            with client:
                _end(client)
            with self._lock:
                del self._sessions[session]
            self._wire_log.note(number, "wyoming", "in", "close", "")
            log.info("wyoming server: client disconnected, client=%d", number)

    def _describe(self) -> bytes:
        with self._info_lock:  # only the first call lists the voices of the engines
            if self._info is None:
                self._info = describe(self._options, self._stt_engine.name)
            return self._info


def _refuse(client: socket.socket) -> None:
    with client:
        client.settimeout(_LINGER_SECONDS)
        try:
            client.sendall(encode_event("error", {"text": "too many clients: try again later", "code": "busy"}))
        except OSError:
            return


def _end(client: socket.socket) -> None:
    """End the sending side and discard the client's remaining data; the caller closes the socket.

    Closing a socket with unread data sends RST (RFC 2525, 2.17), which discards the last answer on the client's side.
    """
    try:
        client.shutdown(socket.SHUT_WR)
        client.settimeout(_LINGER_SECONDS)
        deadline = Deadline(_LINGER_SECONDS)
        while not deadline.is_expired and client.recv(65536):
            pass
    except OSError:
        return

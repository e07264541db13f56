"""Serves the connections of Home Assistant and of the daemon's stages, whose events the bridge answers."""

from __future__ import annotations

import json
import logging
import select
import socket
from collections.abc import Callable
from enum import Enum, auto

from agent.frontends.api.api import Api
from agent.frontends.api.caller import Caller
from agent.frontends.frontend import Frontend, Notification
from agent.frontends.satellite.bridge import ANNOUNCEMENT, Action, Bridge, CloseConnection, Say, Send
from agent.frontends.satellite.settings import VOICE_SERVICE, SatelliteSettings
from agent.pipeline.actions import Record
from agent.pipeline.events import Event, Woken
from agent.services.protocols.wyoming_event import EventBuffer, EventError, decode_event
from agent.system.tcp_listener import RETRY_SECONDS, TcpListener
from agent.system.text import escape
from agent.system.threads import Deadline, Mailbox

log = logging.getLogger(__name__)

SOURCE = "satellite"
MAX_CONNECTIONS = 16
"""Maximum number of connections: enough for Home Assistant, its tests of the connection, and the three stages with
their standby connections."""

MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""Maximum size of the unsent data of a connection; above it the connection is closed. The synthesizer may receive a
whole reply at once."""

STALL_SECONDS = 30.0
"""Maximum time without progress while a peer has sent a part of an event, or has not read all messages."""
HEARTBEAT_SECONDS = 4.0
_READ_BYTES = 65536


class _Signal(Enum):
    STOP_ACCEPTING = auto()
    STOP = auto()


class _Peer:
    """One connection. Not thread-safe; owned by the satellite thread."""

    def __init__(self, client: socket.socket, is_local: bool, stall_seconds: float) -> None:
        self.socket, self.is_local = client, is_local
        self._stall_seconds = stall_seconds
        self.buffer = EventBuffer()
        self.unsent = bytearray()
        self.is_closing = False  # the connection is closed when all unsent data is sent
        self.stall = Deadline(None)

    def update_stall(self) -> None:
        """Restart the stall timeout after progress; without unsent data and a partial event there is no timeout."""
        is_busy = bool(self.unsent) or self.buffer.has_partial_event
        self.stall = Deadline(self._stall_seconds if is_busy else None)

    def send(self, message: bytes) -> None:
        """Queue a message."""
        was_idle = not self.unsent
        self.unsent += message
        if was_idle:
            self.update_stall()


class SatelliteFrontend(Frontend):
    """Serves Home Assistant and the stages of this daemon on one port.

    Thread-safe: the main thread calls ``notify`` and the methods of a frontend; everything else is owned by the
    satellite thread.

    Args:
        settings: The configuration; ``port`` is a number; 0: any free port.
        bridge: Answers the events. No other object may use it.
        api: The methods of the daemon.
        report: Receives the events of the frontend.
        timer_service: The speech service that announces timers, because Home Assistant sends no audio for them;
            ``None``: the first one.
        stall_seconds: See ``STALL_SECONDS``.
        retry_seconds: Interval between attempts to listen while the address cannot be used.
    """

    def __init__(
        self,
        settings: SatelliteSettings,
        bridge: Bridge,
        api: Api,
        report: Callable[[Event], None],
        timer_service: str | None = None,
        *,
        stall_seconds: float = STALL_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        super().__init__("satellite", report)
        self._settings, self._bridge, self._api = settings, bridge, api
        self._timer_service, self._stall_seconds = timer_service, stall_seconds
        self._caller = Caller(SOURCE, may_control=True)
        self._mailbox: Mailbox[_Signal | Woken | Record] = Mailbox()
        address = settings.host, int(settings.port)
        setting = "satellite.host or satellite.port"
        self._listener = TcpListener("satellite", address, setting, backlog=16, retry_seconds=retry_seconds)
        self._peers: dict[int, _Peer] = {}  # by descriptor
        self._is_stopping = False

    @property
    def address(self) -> tuple[str, int]:
        """The address that the frontend listens on, after ``open``."""
        return self._listener.address

    def open(self) -> None:
        self._listener.open()

    def notify(self, notification: Notification) -> None:
        if isinstance(notification, Woken | Record):
            self._mailbox.put(notification)

    def stop_accepting(self) -> None:
        if self.ident is None:
            self._listener.close()
        self._mailbox.put(_Signal.STOP_ACCEPTING)

    def stop(self) -> None:
        self._mailbox.put(_Signal.STOP)
        if self.ident is None:
            self._listener.close()
            self._mailbox.close()

    def abort(self) -> None:
        self.stop()

    # --- the satellite thread

    def run(self) -> None:
        try:
            while not self._is_stopping:
                self.heartbeat()
                self._step()
        finally:
            for number in list(self._peers):
                self._drop(number, "")
            self._listener.close()
            self._mailbox.close()

    def _step(self) -> None:
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        if self._listener.is_retry_due:
            self._listener.open()
        waits = [HEARTBEAT_SECONDS, self._listener.register(poll)]
        for number, peer in self._peers.items():
            poll.register(number, select.POLLIN | (select.POLLOUT if peer.unsent else 0))
            remaining = peer.stall.remaining()
            waits += [] if remaining is None else [remaining]
        for descriptor, mask in poll.poll(int(1000 * min(waits)) + 1):
            if descriptor == self._mailbox.fileno():
                self._take()
            elif descriptor == self._listener.fileno():
                self._accept()
            elif descriptor in self._peers:
                if mask & select.POLLOUT:
                    self._write(descriptor)
                if descriptor in self._peers and mask & ~select.POLLOUT:
                    self._read(descriptor)
        for number in [number for number, peer in self._peers.items() if peer.stall.is_expired]:
            self._drop(number, "it stalled")

    def _take(self) -> None:
        for item in self._mailbox.take():
            match item:
                case _Signal.STOP_ACCEPTING:
                    self._listener.close()
                case _Signal():
                    self._is_stopping = True
                case Woken(word):
                    self._act(self._bridge.handle_woken(word))
                case Record(utterance):
                    if utterance.turn or (utterance.text or "").startswith(ANNOUNCEMENT):
                        self._act(self._bridge.handle_played())

    def _accept(self) -> None:
        if (accepted := self._listener.accept()) is None:
            return
        client, address = accepted
        if len(self._peers) >= MAX_CONNECTIONS:
            log.warning("satellite: connection refused, too many connections")
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        host = str(address[0])
        is_local = host.startswith("127.") or host == "::1"
        self._peers[client.fileno()] = _Peer(client, is_local, self._stall_seconds)

    def _read(self, number: int) -> None:
        peer = self._peers[number]
        try:
            data = peer.socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(number, error)
            return
        if not data:
            self._drop(number, "")
            return
        peer.buffer.feed(data)
        try:
            while number in self._peers and (message := peer.buffer.next()) is not None:
                before = self._bridge.has_assistant
                self._act(self._bridge.receive(number, decode_event(message), is_local=peer.is_local))
                if self._bridge.has_assistant and not before:
                    log.info("satellite: Home Assistant connected")
        except EventError as error:
            self._drop(number, f"it sent bytes that are no event ({error})")
            return
        peer.update_stall()

    def _write(self, number: int) -> None:
        peer = self._peers[number]
        try:
            sent = peer.socket.send(peer.unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(number, error)
            return
        del peer.unsent[:sent]
        peer.update_stall()
        if peer.is_closing and not peer.unsent:
            self._drop(number, "")

    def _lose(self, number: int, error: OSError) -> None:
        self._drop(number, "" if isinstance(error, ConnectionError) else error.strerror or "it was lost")

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(number, message) if number in self._peers:
                    peer = self._peers[number]
                    peer.send(message)
                    if len(peer.unsent) > MAX_UNSENT_BYTES:
                        self._drop(number, "it stopped reading")
                case CloseConnection(number) if number in self._peers:
                    self._peers[number].is_closing = True
                    if not self._peers[number].unsent:
                        self._drop(number, "")
                case Say(text, is_timer):
                    self._say(text, is_timer)

    def _say(self, text: str, is_timer: bool) -> None:
        service = self._timer_service if is_timer else VOICE_SERVICE
        parameters: dict[str, object] = {"text": text, "priority": "important" if is_timer else "message"}
        if service is not None:
            parameters["service"] = service
        request = {"jsonrpc": "2.0", "id": 1, "method": "say", "params": parameters}
        self._api.call(json.dumps(request).encode(), self._caller, self._note_answer)

    def _note_answer(self, answer: bytes) -> None:
        error = json.loads(answer).get("error")
        if error is not None:
            log.warning("satellite: announcement refused, %s", escape(str(error.get("message")), 200))

    def _drop(self, number: int, reason: str) -> None:
        peer = self._peers.pop(number)
        if reason:
            log.warning("satellite: connection closed, %s", reason)
        had_assistant = self._bridge.has_assistant
        actions = self._bridge.handle_closed(number)
        peer.socket.close()
        if had_assistant and not self._bridge.has_assistant:
            log.info("satellite: Home Assistant disconnected")
        self._act(actions)

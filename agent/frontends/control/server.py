"""Serves the API to programs of this machine at the control socket, one JSON-RPC message per line."""

from __future__ import annotations

import importlib
import logging
import select
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.frontends.api.api import Api, Caller
from agent.frontends.control.unix_socket import PeerCredentials, SocketInUse, UnixListener
from agent.frontends.frontend import Frontend
from agent.pipeline.events import Event
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline, Mailbox

if TYPE_CHECKING:
    from agent.frontends.api.caller import ProgramConnection
    from agent.frontends.api.json_rpc import RpcError
    from agent.frontends.control.peer import Peer, PeerTiming
    from agent.system.rate_limiter import RateLimiter

log = logging.getLogger(__name__)

MAX_PEERS = 32
MAX_LOGGED_USERS = 100
MAX_WAIT_SECONDS = 1.0
ACCEPTS_PER_SECOND = 200.0
ACCEPT_PAUSE_SECONDS = 1.0

# The control thread imports these modules when it starts, after the daemon has reported READY. An import at the first
# client would be too late: at that time the process may have no free file descriptor for it.
_IMPORTED_AFTER_READY = (
    "api.described",
    "api.errors",
    "api.json_rpc",
    "api.methods",
    "api.subscription",
    "control.peer",
)


class _Signal(Enum):
    STOP_ACCEPTING = auto()
    STOP = auto()
    ABORT = auto()
    WAKE = auto()


class _Response(NamedTuple):
    """The response to a request of a client. Immutable."""

    peer: Peer
    line: bytes


class _Notification(NamedTuple):
    """A notification for a client. Immutable."""

    peer: Peer
    line: bytes


class ControlServer(Frontend):
    """Serves the API at a Unix socket, in one thread with one poll loop.

    A message is one line. Bounded buffers and non-blocking sockets keep a client from delaying other clients or the
    sound.

    The public methods are thread-safe; all other state is owned by the control thread.

    Args:
        path: The path of the socket.
        report: Receives the events of the frontend.
        api: Executes the requests.
        required: Whether ``open`` raises ``ConfigError`` if the socket cannot be created. If ``False``, it logs a
            warning, and the daemon runs without the socket. ``SocketInUse`` is raised in both cases.
        timing: The timeouts and the rate limit for each client.
        flush_seconds: Maximum time for which the thread waits, after ``stop``, until the clients have read their last
            responses.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[Event], None],
        api: Api,
        *,
        required: bool = True,
        timing: PeerTiming | None = None,
        flush_seconds: float = 1.0,
    ) -> None:
        super().__init__("control", report)
        self._listener = UnixListener(path)
        self._required = required
        self._timing, self._flush_seconds = timing, flush_seconds
        self._api = api
        self._mailbox: Mailbox[_Response | _Notification | _Signal] = Mailbox()
        self._peers: dict[int, Peer] = {}  # by file descriptor
        self._accept_rate: RateLimiter | None = None
        self._accept_pause = Deadline(0.0)  # no accept before its end, because the process had no free descriptor
        self._refused_users: set[int] = set()
        self._is_accepting = True
        self._end: _Signal | None = None

    # --- any thread

    def open(self) -> None:
        try:
            self._listener.open()
        except ConfigError as error:
            if self._required or isinstance(error, SocketInUse):
                raise
            log.warning("control: no socket, %s", error)
        else:
            log.info("control: listening, path=%s", self._listener.path)

    def stop_accepting(self) -> None:
        if self.ident is None:
            self._listener.close()
        self._mailbox.put(_Signal.STOP_ACCEPTING)

    def stop(self) -> None:
        self._mailbox.put(_Signal.STOP)

    def abort(self) -> None:
        self._mailbox.put(_Signal.ABORT)

    # --- the control thread

    def run(self) -> None:
        for name in _IMPORTED_AFTER_READY:
            importlib.import_module(f"agent.frontends.{name}")
        from agent.system.rate_limiter import RateLimiter

        self._accept_rate = RateLimiter(ACCEPTS_PER_SECOND)
        try:
            while self._end is None:
                self.heartbeat()
                self._poll(MAX_WAIT_SECONDS)
            if self._end is _Signal.STOP:
                self._flush()
        finally:
            self._listener.close()
            for peer in list(self._peers.values()):
                self._remove(peer)
            self._mailbox.close()

    def _poll(self, timeout_seconds: float) -> None:
        poll = select.poll()
        poll.register(self._mailbox, select.POLLIN)
        waits = [timeout_seconds]
        wait = self._accept_wait_seconds()
        if self._listener.fileno() >= 0 and wait == 0.0:
            poll.register(self._listener, select.POLLIN)
        elif self._is_accepting:
            waits.append(wait)
        for descriptor, peer in self._peers.items():
            if not peer.is_paused or peer.has_unsent:
                poll.register(descriptor, peer.poll_events())
            waits += [timeout for timeout in (peer.timeout(),) if timeout is not None]
        ready = dict(poll.poll(max(0.0, min(waits)) * 1000 + 1))
        self._take()
        self._api.expire()
        for descriptor, peer in list(self._peers.items()):
            self._serve(peer, ready.get(descriptor, 0))
        if self._listener.fileno() in ready:
            self._accept()

    def _take(self) -> None:
        for item in self._mailbox.take():
            match item:
                case _Response(peer, line):
                    peer.unanswered -= 1
                    peer.send(line)
                case _Notification(peer, line):
                    peer.send(line)
                case _Signal.STOP_ACCEPTING:
                    self._is_accepting = False
                    self._listener.close()
                case _Signal.STOP | _Signal.ABORT:
                    self._end = item

    # --- connections

    def _accept_wait_seconds(self) -> float:
        assert self._accept_rate is not None
        return max(self._accept_pause.remaining() or 0.0, self._accept_rate.wait_seconds())

    def _accept(self) -> None:
        from agent.frontends.control.peer import Peer, PeerTiming

        assert self._accept_rate is not None
        while self._accept_rate.take():
            try:
                connected = self._listener.accept()
            except OSError as error:
                # The process has no free descriptor. The listener stays readable: without a pause the poll loop would
                # use the whole CPU.
                log.warning("control: cannot accept, %s, retry in %g s", error.strerror, ACCEPT_PAUSE_SECONDS)
                self._accept_pause = Deadline(ACCEPT_PAUSE_SECONDS)
                return
            if connected is None:
                return
            peer = Peer(connected, self._timing or PeerTiming())
            refusal = self._refusal(peer)
            if refusal is not None:
                self._dismiss(peer, refusal)
                continue
            # Every client that passed the check of its credentials has all rights.
            peer.caller = Caller("control", True, True, self._connect(peer))
            self._peers[connected.fileno()] = peer

    def _connect(self, peer: Peer) -> ProgramConnection:
        mailbox = self._mailbox
        return self._api.connect(lambda line: mailbox.put(_Notification(peer, line)), lambda: mailbox.put(_Signal.WAKE))

    def _refusal(self, peer: Peer) -> RpcError | None:
        """Return the reason to refuse a client; ``None`` to accept it."""
        from agent.frontends.api.errors import FORBIDDEN, TOO_MUCH, UNAVAILABLE, failure

        try:
            credentials = PeerCredentials.of(peer.socket)
        except OSError as error:
            return failure(UNAVAILABLE, f"cannot read peer credentials ({error.strerror})")
        if not self._listener.admits(credentials):
            # One warning for each user, so that a client that keeps trying does not fill the log.
            is_new = credentials.uid not in self._refused_users and len(self._refused_users) < MAX_LOGGED_USERS
            self._refused_users |= {credentials.uid} if is_new else set()
            level = logging.WARNING if is_new else logging.DEBUG
            log.log(level, "control: client refused, pid=%d, uid=%d", credentials.pid, credentials.uid)
            reason = "you may not connect: only root, the daemon's own user and members of the socket's group may"
            return failure(FORBIDDEN, reason)
        if len(self._peers) >= MAX_PEERS:
            return failure(TOO_MUCH, f"{len(self._peers)} programs are already connected: try again")
        return None

    def _dismiss(self, peer: Peer, reason: RpcError) -> None:
        from agent.frontends.api.json_rpc import encode_error

        peer.send(encode_error(None, reason))
        self._remove(peer)

    def _remove(self, peer: Peer) -> None:
        """Close a connection and complete its texts.

        A text that is never completed would keep the speaker occupied.
        """
        if peer.caller is not None and peer.caller.connection is not None:
            self._api.disconnect(peer.caller.connection)
        if self._peers.get(peer.socket.fileno()) is peer:
            del self._peers[peer.socket.fileno()]
        peer.close()

    # --- requests

    def _serve(self, peer: Peer, ready: int) -> None:
        if ready & (select.POLLERR | select.POLLHUP | select.POLLNVAL) and not ready & select.POLLIN:
            if ready & select.POLLNVAL or (peer.has_ended_input and not peer.is_paused):
                peer.is_closed = True
            else:
                # A paused client may still have unread requests, because POLLIN is not polled. They are read later.
                peer.hang_up()
        if ready & select.POLLOUT:
            peer.write()
        if ready & select.POLLIN:
            peer.read()
        caller = peer.caller
        assert caller is not None and caller.connection is not None
        while (line := peer.next_line()) is not None:
            if self._api.call(line, caller, lambda response: self._mailbox.put(_Response(peer, response))):
                peer.unanswered += 1
        if peer.has_ended_input and not peer.is_paused and caller.connection.texts:
            self._api.complete_texts(caller.connection)
        peer.send_events()
        if peer.has_finished:
            self._take()  # another thread may have put the last notification into the mailbox meanwhile
        violation = peer.violation
        if peer.is_closed or peer.has_finished:
            self._remove(peer)
        elif violation is not None:
            self._dismiss(peer, violation)

    def _flush(self) -> None:
        """Send the remaining responses. Unread events are dropped.

        Returns when all of them are written, after ``flush_seconds``, or when ``abort`` is called.
        """
        self._take()
        deadline = Deadline(self._flush_seconds)
        while self._end is _Signal.STOP and not deadline.is_expired:
            unsent = [peer for peer in self._peers.values() if peer.owes_response]
            if not unsent:
                return
            self.heartbeat()
            poll = select.poll()
            poll.register(self._mailbox, select.POLLIN)
            for peer in unsent:
                poll.register(peer.socket, select.POLLOUT)
            poll.poll((deadline.remaining() or 0.0) * 1000)
            self._take()
            for peer in unsent:
                peer.write()

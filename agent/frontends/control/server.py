"""The control socket: ``voice-agent say``, ``hush``, ``status`` and ``volume`` reach the running daemon through it."""

from __future__ import annotations

import itertools
import logging
import os
import select
import time
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from agent import __version__
from agent.errors import ConfigError
from agent.frontends.control.unix_socket import PeerCredentials, SocketInUse, UnixListener
from agent.frontends.frontend import Frontend, Notification
from agent.pipeline.conversation import Record
from agent.pipeline.events import (
    Announce,
    Event,
    Hush,
    MicrophoneMute,
    Mute,
    TextComplete,
    TextPiece,
    Utterance,
    Volume,
)
from agent.pipeline.status import Status
from agent.system.text import MAX_TEXT_CHARACTERS, has_words
from agent.system.threads import Deadline, Mailbox

if TYPE_CHECKING:
    from agent.frontends.control.peer import Peer, PeerTiming, RateLimiter

log = logging.getLogger(__name__)

MAX_ACTIVE_PEERS = 8
"""Connected clients that do not wait for an utterance. A waiting client does not block ``hush`` or an urgent text."""
MAX_PEERS = 64
MAX_LOGGED_USERS = 100
MAX_WAIT_SECONDS = 1.0
ACCEPTS_PER_SECOND = 200.0
ACCEPT_PAUSE_SECONDS = 1.0


class _Signal(Enum):
    STOP_ACCEPTING = auto()
    STOP = auto()
    ABORT = auto()


class ControlServer(Frontend):
    """Serves the control protocol (see ``agent.frontends.control.protocol``) in one thread with one poll loop.

    A request gets one response, and an utterance gets a second one when it has ended. No client can delay another
    client or the sound. The public methods are thread-safe; all other state is owned by the control thread.

    Args:
        path: The path of the socket.
        report: Receives the requests as events.
        required: Whether ``open`` raises ``ConfigError`` where the socket cannot be created. Otherwise it logs a
            warning, and the daemon runs without the socket. A socket of another daemon is always an error.
        timing: The limits for each client.
        flush_seconds: How long ``stop`` waits for clients to read their last responses.
        storage_problem: Returns why the volume and the mutes cannot be stored; ``None`` if they can.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[Event], None],
        *,
        required: bool = True,
        timing: PeerTiming | None = None,
        flush_seconds: float = 1.0,
        storage_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__("control", report)
        self._listener = UnixListener(path)
        self._required = required
        self._timing, self._flush_seconds = timing, flush_seconds
        self._storage_problem = storage_problem
        self._mailbox: Mailbox[Notification | _Signal] = Mailbox()
        self._peers: dict[int, Peer] = {}  # by file descriptor
        self._status: Status | None = None
        self._accept_rate: RateLimiter | None = None
        self._accept_pause = Deadline(0.0)  # after the process had no descriptor left
        self._refused_users: set[int] = set()
        self._is_accepting = True
        self._end: _Signal | None = None
        self._started_at = time.monotonic()
        run = os.urandom(6).hex()
        self._ids = (f"{run}-control-{number}" for number in itertools.count(1))

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

    def notify(self, notification: Notification) -> None:
        self._mailbox.put(notification)

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
        # Imported here and not with the module: the thread starts its work after the daemon has reported READY. The
        # first request may come when no file descriptor is free for an import.
        from agent.frontends.control import protocol  # noqa: F401
        from agent.frontends.control.peer import RateLimiter

        self._accept_rate = RateLimiter(ACCEPTS_PER_SECOND)
        try:
            while self._end is None:
                self.heartbeat()
                self._poll(MAX_WAIT_SECONDS)
            if self._end is _Signal.STOP:
                self._flush()
        finally:
            self._listener.close()
            for peer in self._peers.values():
                peer.close()
            self._peers.clear()
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
            if not peer.is_throttled or peer.has_unsent:
                poll.register(descriptor, peer.poll_events())
            waits += [timeout for timeout in (peer.timeout(),) if timeout is not None]
        ready = dict(poll.poll(max(0.0, min(waits)) * 1000 + 1))
        for item in self._mailbox.take():
            self._receive(item)
        for descriptor, peer in list(self._peers.items()):
            self._serve(peer, ready.get(descriptor, 0))
        if self._listener.fileno() in ready:
            self._accept()

    def _receive(self, item: Notification | _Signal) -> None:
        match item:
            case Status():
                self._status = item
            case Record():
                self._send_end(item.utterance.id, item.state, item.reason, item.seconds)
            case _Signal.STOP_ACCEPTING:
                self._is_accepting = False
                self._listener.close()
            case _Signal():
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
                # Out of descriptors: the listener stays readable, and without a pause this loop would spin.
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
            self._peers[connected.fileno()] = peer

    def _refusal(self, peer: Peer) -> str | None:
        """Return the reason to refuse a client; ``None`` to accept it."""
        try:
            credentials = PeerCredentials.of(peer.socket)
        except OSError as error:
            return f"cannot read peer credentials ({error.strerror})"
        if not self._listener.admits(credentials):
            # One warning for each user: a client that keeps trying does not fill the log.
            is_new = credentials.uid not in self._refused_users and len(self._refused_users) < MAX_LOGGED_USERS
            self._refused_users |= {credentials.uid} if is_new else set()
            level = logging.WARNING if is_new else logging.DEBUG
            log.log(level, "control: client refused, pid=%d, uid=%d", credentials.pid, credentials.uid)
            return "you may not connect: only root, the daemon's own user and members of the socket's group may"
        active = sum(not each.awaited for each in self._peers.values())
        if active >= MAX_ACTIVE_PEERS or len(self._peers) >= MAX_PEERS:
            return f"{len(self._peers)} programs are already connected: try again"
        return None

    def _dismiss(self, peer: Peer, reason: str) -> None:
        peer.send({"error": reason})
        self._remove(peer)

    def _remove(self, peer: Peer) -> None:
        """Close a connection and complete its text: an utterance without an end would occupy the device forever."""
        self._complete(peer)
        if self._peers.get(peer.socket.fileno()) is peer:
            del self._peers[peer.socket.fileno()]
        peer.close()

    # --- requests

    def _serve(self, peer: Peer, ready: int) -> None:
        if ready & (select.POLLERR | select.POLLHUP | select.POLLNVAL) and not ready & select.POLLIN:
            peer.is_closed = True
        if ready & select.POLLOUT:
            peer.write()
        if ready & select.POLLIN:
            peer.read()
        while (line := peer.next_line()) is not None:
            self._handle(peer, line)
        has_ended_input = peer.has_ended_input and not peer.is_throttled
        if has_ended_input:
            self._complete(peer)
        violation = peer.violation
        if peer.is_closed or (has_ended_input and not peer.awaited and not peer.has_unsent):
            self._remove(peer)
        elif violation is not None:
            self._dismiss(peer, violation)

    def _handle(self, peer: Peer, line: bytes) -> None:
        from agent.frontends.control import protocol

        request = protocol.parse_request(line)
        while_ending = (
            protocol.StatusRequest
            | protocol.HushRequest
            | protocol.InvalidRequest
            | protocol.PieceOfText
            | protocol.CompleteText
        )
        if not self._is_accepting and not isinstance(request, while_ending):
            request = protocol.InvalidRequest("the daemon is ending")
        match request:
            case protocol.SayText(text, priority):
                if self._check_speaks(peer):
                    utterance = next(self._ids)
                    self._announce(peer, Utterance(utterance, text, priority=priority, source="control"))
                    peer.send(self._accepted(utterance))
            case protocol.BeginText(priority):
                self._begin(peer, priority)
            case protocol.PieceOfText(text):
                self._append(peer, text)
            case protocol.CompleteText():
                if peer.text is None:
                    peer.send({"error": "no text has been begun"})
                else:
                    peer.send({"completed": peer.text.utterance})
                    self._complete(peer)
            case protocol.HushRequest():
                peer.send({"hush": True})
                self._hush(peer)
            case protocol.StatusRequest():
                peer.send(self._status_response())
            case protocol.SetVolume(percent) if self._check_speaks(peer):
                self.report(Volume(percent, "control"))
                peer.send({"volume": percent, **self._storage_warnings()})
            case protocol.SetMute(muted) if self._check_speaks(peer):
                self.report(Mute(muted, "control"))
                peer.send({"mute": muted, **self._storage_warnings()})
            case protocol.SetMicrophone(muted) if self._check_listens(peer):
                self.report(MicrophoneMute(muted, "control"))
                peer.send({"microphone": "mute" if muted else "unmute", **self._storage_warnings()})
            case protocol.InvalidRequest(reason):
                peer.send({"error": reason})

    def _storage_warnings(self) -> dict[str, list[str]]:
        problem = self._storage_problem()
        return {"warnings": [f"the value is lost at the next start: {problem}"]} if problem else {}

    def _check_speaks(self, peer: Peer) -> bool:
        if self._status is not None and self._status.volume is None:
            peer.send({"error": "this daemon only listens: conversation.mode is captions"})
            return False
        return True

    def _check_listens(self, peer: Peer) -> bool:
        if self._status is not None and not self._status.listens:
            peer.send({"error": "this daemon only speaks: conversation.mode is announce"})
            return False
        return True

    def _announce(self, peer: Peer, utterance: Utterance) -> None:
        peer.awaited.add(utterance.id)
        self.report(Announce(utterance))

    def _begin(self, peer: Peer, priority: int) -> None:
        from agent.frontends.control.peer import StreamedUtterance

        if peer.text is not None:
            peer.send({"error": "another text has been begun and is not complete"})
        elif self._check_speaks(peer):
            peer.text = StreamedUtterance(next(self._ids), priority)
            peer.awaited.add(peer.text.utterance)
            peer.send(self._accepted(peer.text.utterance))

    def _accepted(self, utterance: str) -> dict[str, object]:
        """Return the response to an accepted text: with the problems that may delay it, and why it is not heard."""
        response: dict[str, object] = {"utterance": utterance}
        if self._status is None:
            return response
        if self._status.problems:
            response["troubles"] = list(self._status.problems)
        if "speaker" in self._status.muted:
            response["warnings"] = ["the speaker is muted, the text is not heard: voice-agent unmute speaker"]
        elif self._status.volume == 0:
            response["warnings"] = ["the volume is 0, the text is not heard: voice-agent volume 50"]
        return response

    def _append(self, peer: Peer, text: str) -> None:
        """Pass a piece on, without a response. The first piece with words announces the utterance: until then there is
        no text to speak, and no reason to pause the recognizer."""
        streamed = peer.text
        if streamed is None:
            peer.send({"error": "no text has been begun"})
            return
        streamed.length += len(text)
        if streamed.length > MAX_TEXT_CHARACTERS:
            peer.send({"error": f"the text has more than {MAX_TEXT_CHARACTERS} characters: its beginning is said"})
            self._complete(peer)
            return
        if not streamed.is_announced and has_words(text):
            streamed.is_announced = True
            self._announce(peer, Utterance(streamed.utterance, None, priority=streamed.priority, source="control"))
        if streamed.is_announced and text:
            self.report(TextPiece(streamed.utterance, text))

    def _hush(self, peer: Peer) -> None:
        streamed, peer.text = peer.text, None  # further pieces of it are refused
        if streamed is not None and not streamed.is_announced:
            self._send_end(streamed.utterance, "cancelled", "by control", 0.0)
        self.report(Hush("control"))

    def _complete(self, peer: Peer) -> None:
        streamed, peer.text = peer.text, None
        if streamed is None:
            return
        if streamed.is_announced:
            self.report(TextComplete(streamed.utterance))
        else:
            self._send_end(streamed.utterance, "failed", "there is nothing to say: the text has no words", 0.0)

    # --- responses

    def _send_end(self, utterance: str, state: str, reason: str, seconds: float) -> None:
        for peer in self._peers.values():
            if utterance not in peer.awaited:
                continue
            peer.awaited.discard(utterance)
            if peer.text is not None and peer.text.utterance == utterance:
                peer.text = None  # the utterance ended before its text was complete
            peer.send({"utterance": utterance, "state": state, "why": reason, "seconds": round(seconds, 3)})

    def _status_response(self) -> dict[str, object]:
        status = self._status or Status("starting", "idle")
        return {
            "status": status.summary,
            "state": status.state,
            "mode": status.mode,
            "saying": None if status.saying is None else status.saying._asdict(),
            "queue": status.queue,
            "volume": status.volume,
            "muted": list(status.muted),
            "services": [service._asdict() for service in status.services],
            "devices": {
                name: {"device": device, "state": state, "reason": reason}
                for name, device, state, reason in status.devices
            },
            "can_speak": status.can_speak,
            "can_listen": status.can_listen,
            "troubles": list(status.problems),
            "uptime_seconds": round(time.monotonic() - self._started_at, 1),
            "version": __version__,
        }

    def _flush(self) -> None:
        """Record the remaining utterances as cancelled, and wait until the clients have read their responses."""
        for peer in self._peers.values():
            for utterance in sorted(peer.awaited):
                self._send_end(utterance, "cancelled", "by the end of the daemon", 0.0)
        deadline = Deadline(self._flush_seconds)
        while not deadline.is_expired and (unsent := [peer for peer in self._peers.values() if peer.has_unsent]):
            self.heartbeat()
            poll = select.poll()
            for peer in unsent:
                poll.register(peer.socket, select.POLLOUT)
            poll.poll((deadline.remaining() or 0.0) * 1000)
            for peer in unsent:
                peer.write()

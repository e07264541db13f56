"""The client of the control socket, for the commands that use a running daemon."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Mapping

from agent.errors import ServiceError
from agent.frontends.control.line_buffer import MAX_LINE_BYTES, LineBuffer
from agent.system.json_text import parse_json
from agent.system.paths import candidate_sockets
from agent.system.threads import Deadline

SEND_SECONDS = 10.0
RESPONSE_SECONDS = 5.0
PIECE_CHARACTERS = 8000
"""Maximum length of a text in one line. Its line stays below the limit even if JSON writes each character as an
escape."""


class DaemonUnreachable(ServiceError):
    """No daemon listens at the control socket, or this user may not connect to it."""


def socket_paths(setting: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths at which a daemon may listen, for a value of ``control.socket``."""
    if setting == "none":
        return ()
    return candidate_sockets(environ) if setting == "auto" else (setting,)


class ControlClient:
    """A connection to a running daemon. Every method raises ``ServiceError`` if the connection fails.

    ``send`` and the methods based on it are thread-safe. One thread may ``receive`` meanwhile. ``path`` is that of the
    socket.
    """

    def __init__(self, connected: socket.socket, path: str) -> None:
        self.path = path
        self._socket = connected
        self._lines = LineBuffer()
        self._send_lock = threading.Lock()

    @classmethod
    def connect(cls, paths: tuple[str | os.PathLike[str], ...]) -> ControlClient:
        """Connect to the first daemon that listens at one of ``paths``.

        Raises:
            DaemonUnreachable: No daemon accepts a connection; the message has the reason for each path.
        """
        reasons = []
        is_forbidden = False
        for path in paths:
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                # Without a timeout: with one, connect(2) on a Unix socket fails immediately with EAGAIN while the
                # backlog is full (unix(7)). A daemon that never accepts is restarted by its watchdog, which ends this
                # call.
                connected.connect(os.fspath(path))
            except OSError as error:
                connected.close()
                reasons.append(f"{path}: {_reason(error, path)}")
                is_forbidden = is_forbidden or isinstance(error, PermissionError)
                continue
            connected.settimeout(SEND_SECONDS)
            return cls(connected, os.fspath(path))
        details = "; ".join(reasons) if reasons else "control.socket is none"
        cure = "" if is_forbidden else ": start one with voice-agent run"
        raise DaemonUnreachable("control", f"no daemon can be reached ({details}){cure}")

    def send(self, request: Mapping[str, object]) -> None:
        """Send one request."""
        line = json.dumps(request).encode("ascii") + b"\n"
        try:
            with self._send_lock:
                self._socket.sendall(line)
        except OSError as error:
            raise ServiceError("control", f"the daemon no longer reads ({_reason(error)})") from error

    def say(self, text: str, priority: int = 0) -> None:
        """Request the speech of ``text``, in one line if it fits, else in pieces."""
        request: dict[str, object] = {"say": text, "priority": priority}
        if len(json.dumps(request)) <= MAX_LINE_BYTES:
            self.send(request)
            return
        self.send({"begin": True, "priority": priority})
        self.send_text(text)
        self.send({"complete": True})

    def send_text(self, text: str) -> None:
        """Send another piece of a text that was begun."""
        for start in range(0, len(text), PIECE_CHARACTERS):
            self.send({"piece": text[start : start + PIECE_CHARACTERS]})

    def receive(self, deadline: Deadline) -> dict[str, object] | None:
        """Return the next response; ``None`` if the daemon closed the connection, or ``shutdown`` was called."""
        while (line := self._lines.next()) is None:
            if self._lines.is_overlong:
                raise ServiceError("control", "the peer at the socket is no daemon: its line does not end")
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            remaining = deadline.remaining()
            if not poll.poll(None if remaining is None else remaining * 1000):
                raise ServiceError("control", "the daemon does not answer")
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise ServiceError("control", f"the connection to the daemon was lost ({_reason(error)})") from error
            if not data:
                return None
            self._lines.feed(data)
        response = parse_json(line)
        if isinstance(response, str):
            raise ServiceError("control", f"the peer at the socket is no daemon: {response}")
        return response

    def request(self, request: Mapping[str, object]) -> dict[str, object]:
        """Send one request and return its response. Raises ``ServiceError`` if the daemon refuses it."""
        send_error: ServiceError | None = None
        try:
            self.send(request)
        except ServiceError as error:
            send_error = error  # a server that refuses the connection sends the reason before it reads a request
        try:
            response = self.receive(Deadline(RESPONSE_SECONDS))
        except ServiceError as error:
            raise send_error or error from error
        if response is None:
            raise send_error or ServiceError("control", "the daemon has closed the connection")
        if "error" in response:
            raise ServiceError("control", str(response["error"]))
        return response

    def shutdown(self) -> None:
        """End a ``receive`` in another thread. Call ``close`` after that thread has ended."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the daemon closed first

    def close(self) -> None:
        self._socket.close()


def _reason(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no socket"
    if isinstance(error, ConnectionRefusedError):
        return "no process listens any more"
    if isinstance(error, PermissionError):
        return f"you may not connect; use sudo, or become a member of {_group(path)}"
    return error.strerror or str(error) or "no answer in time"


def _group(path: str | os.PathLike[str] | None) -> str:
    """Name the group whose members may connect."""
    import grp

    try:
        return f"the group {grp.getgrgid(os.stat(path).st_gid).gr_name}" if path else "the socket's group"
    except (OSError, KeyError):
        return "the socket's group"

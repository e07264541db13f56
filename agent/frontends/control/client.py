"""Reaching a running daemon: its control socket, from the outside."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.errors import ServiceError
from agent.frontends.control.lines import LONGEST_LINE, Lines
from agent.system.json_text import parse_json
from agent.system.paths import Paths
from agent.system.threads import Deadline

SEND_SECONDS = 10.0
ANSWER_SECONDS = 5.0
PIECE_CHARACTERS = 8000
"""Of a text in one line: even if each had to be written as an escape, the line would not be too long."""


class DaemonUnreachable(ServiceError):
    """Nobody listens at the control socket, or nobody whom we may talk to."""


def sockets(setting: str, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the paths at which a daemon may listen, for a value of ``control.socket``."""
    if setting == "none":
        return ()
    return Paths.from_environment(environ).candidate_sockets() if setting == "auto" else (Path(setting),)


class ControlClient:
    """A connection to a running daemon. ``ServiceError`` where it breaks off or does not answer.

    One thread may ``receive`` while others ``send``; lines never get into each other.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._lines = Lines()
        self._sending = threading.Lock()

    @classmethod
    def find(cls, paths: tuple[Path, ...]) -> ControlClient:
        """The first daemon that answers at one of ``paths``. Raises ``DaemonUnreachable`` with the reason for each."""
        reasons = []
        forbidden = False  # whether one is there, but not for us
        for path in paths:
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                # Without a time-out, for with one the kernel does not wait for our turn where many are connecting. A
                # daemon that never comes to accept is ended by its watchdog, and that ends this as well.
                connected.connect(os.fspath(path))
            except OSError as error:
                connected.close()
                reasons.append(f"{path}: {_reason(error, path)}")
                forbidden = forbidden or isinstance(error, PermissionError)
                continue
            connected.settimeout(SEND_SECONDS)
            return cls(connected)
        where = "; ".join(reasons) if reasons else "control.socket is none"
        cure = "" if forbidden else ": start one with voice-agent run"
        raise DaemonUnreachable("control", f"no daemon can be reached ({where}){cure}")

    def send(self, request: Mapping[str, object]) -> None:
        line = json.dumps(request).encode("ascii") + b"\n"
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError as error:
            raise ServiceError("control", f"the daemon reads no more ({_reason(error)})") from error

    def say(self, text: str, priority: int = 0) -> None:
        """Asks for ``text`` to be said, in as many lines as it takes."""
        whole: dict[str, object] = {"say": text, "priority": priority}
        if len(json.dumps(whole)) <= LONGEST_LINE:
            self.send(whole)
            return
        self.send({"begin": True, "priority": priority})
        self.piece(text)
        self.send({"complete": True})

    def piece(self, text: str) -> None:
        """More of a text that was begun."""
        for start in range(0, len(text), PIECE_CHARACTERS):
            self.send({"piece": text[start : start + PIECE_CHARACTERS]})

    def receive(self, deadline: Deadline) -> dict[str, object] | None:
        """The next answer; ``None`` where the daemon has closed the connection, or ``close`` was called."""
        while (line := self._lines.next()) is None:
            if self._lines.too_long:
                raise ServiceError("control", "what answers there is no daemon: its line does not end")
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            remaining = deadline.remaining()
            if not poll.poll(None if remaining is None else remaining * 1000):
                raise ServiceError("control", "the daemon does not answer")
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise ServiceError("control", f"the daemon is gone ({_reason(error)})") from error
            if not data:
                return None
            self._lines.feed(data)
        answer = parse_json(line)
        if isinstance(answer, str):
            raise ServiceError("control", f"what answers there is no daemon: {answer}")
        return answer

    def ask(self, request: Mapping[str, object]) -> dict[str, object]:
        """The answer to one request. Raises ``ServiceError`` also where that is a refusal."""
        refused: ServiceError | None = None
        try:
            self.send(request)
        except ServiceError as error:
            refused = error  # who is refused at the door may be told why before it has asked anything
        try:
            answer = self.receive(Deadline(ANSWER_SECONDS))
        except ServiceError as error:
            raise refused or error from error
        if answer is None:
            raise refused or ServiceError("control", "the daemon has closed the connection")
        if "error" in answer:
            raise ServiceError("control", str(answer["error"]))
        return answer

    def leave(self) -> None:
        """Ends a ``receive`` in another thread; ``close`` follows once that thread has ended."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was first

    def close(self) -> None:
        self._socket.close()


def _reason(error: OSError, path: Path | None = None) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no socket"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens any more"
    if isinstance(error, PermissionError):
        return f"you may not connect; type sudo before it, or become a member of {_group(path)}"
    return error.strerror or str(error) or "no answer in time"


def _group(path: Path | None) -> str:
    """Whose members may connect, in words."""
    import grp

    try:
        return f"the group {grp.getgrgid(path.stat().st_gid).gr_name}" if path else "the socket's group"
    except (OSError, KeyError):
        return "the socket's group"

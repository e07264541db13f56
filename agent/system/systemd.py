"""The service's word to systemd: ready, how it is, still alive, stopping. Without systemd every word goes nowhere."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

from agent.system.log import RepeatedWarning
from agent.system.text import escape

log = logging.getLogger(__name__)

_STATUS_LIMIT = 200
_LAST_SECONDS = 3.0  # for what comes after the orderly end, when the interpreter itself ends


class SystemdNotifier:
    """Tells systemd what the service does. Any thread may call anything, and nothing here ever raises or waits: a
    supervisor that has gone, or does not read, is no reason to fall silent.

    What cannot be handed over at once is kept, the latest word of each kind, and told in its order the next time that
    anything is (``pet`` comes once a second); the log has one line when that begins and one when it is over.

    ``environ`` is what systemd gave: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC``, ``WATCHDOG_PID`` (man sd_notify,
    sd_watchdog_enabled).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog_seconds(environ)
        self._status: str | None = None
        self._lock = threading.Lock()
        self._waiting: dict[str, str] = {}  # by kind, in the order in which they are to be told
        self._deaf = RepeatedWarning(log)

    @property
    def watchdog_seconds(self) -> float | None:
        """How long systemd waits for a ``pet()`` before it kills; ``None`` where it does not watch this process. Pet at
        least twice in that time."""
        return self._watchdog

    def ready(self, status: str) -> bool:
        """The configuration is valid and the threads are up; also said when a reload is through."""
        self._status = _line(status)
        return self._tell("READY", "READY=1", f"STATUS={self._status}")

    def status(self, text: str) -> bool:
        """How things are, in words for a person. The same words again are not sent again."""
        line = _line(text)
        if line == self._status:
            return True
        self._status = line
        return self._tell("STATUS", f"STATUS={line}")

    def reloading(self) -> bool:
        """The configuration is being read again; ``ready`` must follow."""
        # systemd compares this with the moment it sent its signal, on the same clock.
        return self._tell("RELOADING", "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> bool:
        """The end has begun, and may take so long: the first thing said after SIGTERM. The unit may know of less."""
        microseconds = int((seconds + _LAST_SECONDS) * 1_000_000)
        return self._tell("STOPPING", "STOPPING=1", f"EXTEND_TIMEOUT_USEC={microseconds}")

    def ping_watchdog(self) -> bool:
        """Every worker moves. Say it only then: a keep-alive from a thread of its own would hide a deadlock."""
        return self._tell("WATCHDOG", "WATCHDOG=1")

    def resend(self) -> bool:
        """Tells what could not be handed over before; to be called where nothing else is said any more."""
        with self._lock:
            return self._tell_waiting()

    def _tell(self, kind: str, *lines: str) -> bool:
        """Whether the message, and all that waited before it, was handed over."""
        if not self._address:
            return False
        with self._lock:
            self._keep(kind, "\n".join(lines))
            return self._tell_waiting()

    def _tell_waiting(self) -> bool:
        while self._waiting:
            first = next(iter(self._waiting))
            if not self._hand_over(self._waiting[first]):
                self._deaf.warn("systemd does not take what it is told (%s); it is told again", first)
                return False
            del self._waiting[first]
        self._deaf.resolved("systemd has taken all that it was told")
        return True

    def _keep(self, kind: str, message: str) -> None:
        """The latest of its kind, behind all that waits. A reload that was never told of is forgotten with its end when
        the next one begins; but the word that the start is over stays before both."""
        if kind == "RELOADING":
            self._waiting.pop("READY again", None)
        elif kind == "READY":
            self._waiting.pop("STATUS", None)  # it has a newer one with it
            kind = "READY again" if "RELOADING" in self._waiting else "READY"
        self._waiting.pop(kind, None)
        self._waiting[kind] = message

    def _hand_over(self, message: str) -> bool:
        try:
            if self._address[0] in "/@":
                # Not through systemd's library: that takes 5 ms to load, and waits without end for whoever listens.
                return _send(self._address, message)
            library = _library() if self._address == os.environ.get("NOTIFY_SOCKET") else None
            return library(message) if library is not None else False
        except OSError:
            return False


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that the daemon starts: it must not speak to systemd in the daemon's name, nor know
    where the keys are."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID")
    return {name: value for name, value in environ.items() if name not in ours and not name.endswith("__API_KEY")}


def _library() -> Callable[[str], bool] | None:
    """systemd's own client where it is installed: it also knows sockets that the datagram below does not (vsock)."""
    try:
        # The folder systemd/ beside the sources is found instead where the package is not installed; it has no daemon.
        from systemd import daemon  # type: ignore[attr-defined]
    except ImportError:
        return None
    return lambda message: bool(daemon.notify(message))


def _send(address: str, message: str) -> bool:
    if len(address) < 2:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        # An abstract socket is written with @ and begins with a zero byte.
        sock.connect("\0" + address[1:] if address[0] == "@" else address)
        sock.send(message.encode("utf-8"))  # a datagram is taken whole or not at all
    return True


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or len(microseconds) > 18 or int(microseconds) == 0:
        return None
    # The variables are inherited: a child must not believe that it is watched.
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000


def _line(text: str) -> str:
    return escape(text, _STATUS_LIMIT)

"""Notifies systemd of the state of the service (sd_notify). Without systemd, notifications are dropped."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping

from agent.system.log import RepeatedWarning, hidden_secrets
from agent.system.text import escape

log = logging.getLogger(__name__)

MAX_STATUS_CHARACTERS = 200
EXIT_SECONDS = 3.0
"""Time for the exit of the interpreter after the shutdown."""


class SystemdNotifier:
    """Sends notifications to systemd. Thread-safe; no method blocks or raises.

    If systemd does not accept a notification, the latest one of each kind is kept. The kept notifications are sent in
    order before the next one; the watchdog sends one about twice a second. The log has one line at the first rejection
    and one line when all have been accepted. The methods that send return whether systemd has accepted everything.

    A notification is one datagram (sd_notify(3)). The library of systemd is not used: it takes 5 ms to import and
    blocks while the receive buffer of systemd is full.

    Args:
        environ: Environment from systemd: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = _watchdog_seconds(environ)
        self._status: str | None = None
        self._lock = threading.Lock()
        self._pending: dict[str, str] = {}  # by kind, in the order of sending
        self._rejected = RepeatedWarning(log)

    @property
    def watchdog_seconds(self) -> float | None:
        """Seconds without a ping after which systemd kills the service; ``None`` without a watchdog.

        Call ``ping_watchdog`` at least twice in this time (sd_watchdog_enabled(3)).
        """
        return self._watchdog_seconds

    def ready(self, status: str) -> bool:
        """Report that startup or a reload is complete."""
        self._status = escape(status, MAX_STATUS_CHARACTERS)
        return self._notify("READY", "READY=1", f"STATUS={self._status}")

    def status(self, text: str) -> bool:
        """Report the state as text. An unchanged text is not sent again."""
        line = escape(text, MAX_STATUS_CHARACTERS)
        if line == self._status:
            return True
        self._status = line
        return self._notify("STATUS", f"STATUS={line}")

    def reloading(self) -> bool:
        """Report that a reload begins; ``ready`` must follow."""
        # systemd compares this time with the time of its signal, both on CLOCK_MONOTONIC (Type=notify-reload).
        return self._notify("RELOADING", "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> bool:
        """Report that the shutdown begins and may take ``seconds``. It is the first step after SIGTERM."""
        microseconds = int((seconds + EXIT_SECONDS) * 1_000_000)
        return self._notify("STOPPING", "STOPPING=1", f"EXTEND_TIMEOUT_USEC={microseconds}")

    def ping_watchdog(self) -> bool:
        """Report that all workers make progress.

        Do not call it from a separate timer thread, which would keep a deadlocked daemon alive.
        """
        return self._notify("WATCHDOG", "WATCHDOG=1")

    def resend(self) -> bool:
        """Send the kept notifications. Used in phases that send no other notification."""
        with self._lock:
            return self._send_pending()

    def _notify(self, kind: str, *lines: str) -> bool:
        """Send a notification after all kept ones; return whether all were accepted."""
        if not self._address:
            return False
        with self._lock:
            self._keep(kind, "\n".join(lines))
            return self._send_pending()

    def _send_pending(self) -> bool:
        while self._pending:
            kind = next(iter(self._pending))
            if not self._send(self._pending[kind]):
                self._rejected.warn("systemd: notification not accepted, kept for later, kind=%s", kind)
                return False
            del self._pending[kind]
        self._rejected.resolved("systemd: all notifications accepted")
        return True

    def _keep(self, kind: str, message: str) -> None:
        """Replace the kept notification of the same kind.

        READY after startup and READY after a reload are two kinds. A new reload drops the READY of the previous reload
        but never the READY of the startup.
        """
        if kind == "RELOADING":
            self._pending.pop("READY after reload", None)
        elif kind == "READY":
            self._pending.pop("STATUS", None)  # READY contains a newer status
            kind = "READY after reload" if "RELOADING" in self._pending else "READY"
        self._pending.pop(kind, None)
        self._pending[kind] = message

    def _send(self, message: str) -> bool:
        # Only AF_UNIX: systemd passes a vsock address to the init of a virtual machine, never to a service.
        if self._address[0] not in "/@" or len(self._address) < 2:
            return False
        # The name of an abstract socket starts with a zero byte, which systemd writes as "@".
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(address)
                sock.send(message.encode("utf-8"))  # a datagram is accepted as a whole or not at all
        except OSError:
            return False
        return True


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process, without secrets and without the variables of systemd.

    The secrets are those that the log hides. A variable is removed if its whole value is a secret (``{env: NAME}``). A
    ``VOICE_AGENT_*`` variable is also removed if it sets an API key, or if its value contains a secret.
    """
    own = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID")
    secrets = hidden_secrets()

    def is_secret(name: str, value: str) -> bool:
        if name.startswith("VOICE_AGENT_"):
            return name.endswith("__API_KEY") or any(secret in value for secret in secrets)
        return value.strip() in secrets

    return {name: value for name, value in environ.items() if name not in own and not is_secret(name, value)}


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or len(microseconds) > 18 or int(microseconds) == 0:
        return None
    # Child processes inherit the variables; WATCHDOG_PID names the watched process (sd_watchdog_enabled(3)).
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000

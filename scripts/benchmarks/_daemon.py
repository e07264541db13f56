"""Shared by the benchmarks that run a daemon: the process, its notification socket and its control socket."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.client import Client
from agent.client import Speech as Accepted
from agent.system.threads import Deadline
from scripts.benchmarks._processes import clean_environment

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 60.0
CHECK_SECONDS = 0.5
"""Interval at which the wait for READY looks whether the process still runs."""


class Ready:
    """The notification socket of a daemon. ``wait`` is thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._moments: queue.SimpleQueue[float] = queue.SimpleQueue()
        # Reads all notifications, because a full socket would block the daemon.
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, process: subprocess.Popen[bytes]) -> float | None:
        """Return the time of the next READY (``time.perf_counter``); ``None`` if the process ends before it."""
        deadline = Deadline(TIMEOUT_SECONDS)
        while process.poll() is None and not deadline.is_expired:
            with contextlib.suppress(queue.Empty):
                return self._moments.get(timeout=CHECK_SECONDS)
        return None

    def _listen(self) -> None:
        while True:
            if b"READY=1" in self._socket.recv(4096):
                self._moments.put(time.perf_counter())


def environment(folder: Path, ready: Ready | None = None) -> dict[str, str]:
    """Return the environment of a daemon whose sockets and state are in ``folder``."""
    kept = clean_environment(folder)
    kept["VOICE_AGENT_CONTROL__SOCKET"] = str(folder / "control.sock")
    kept["VOICE_AGENT_SERVER__PORT"] = "0"
    if ready is not None:
        kept["NOTIFY_SOCKET"] = str(ready.path)
    return kept


class Daemon:
    """A running daemon. Not thread-safe.

    Attributes:
        ready_seconds: from exec to READY.
    """

    def __init__(
        self,
        folder: Path,
        ready: Ready,
        arguments: list[str],
        variables: Mapping[str, str] | None = None,
        module: str = "agent",
    ) -> None:
        self._folder = folder
        self._log = (folder / "daemon.log").open("w+", encoding="utf-8")
        began = time.perf_counter()
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", module, "run", *arguments],
            cwd=ROOT,
            env=environment(folder, ready) | dict(variables or {}),
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        self.pid = self.process.pid
        ready_at = ready.wait(self.process)
        if ready_at is None:
            self.process.kill()
            raise SystemExit(f"the daemon did not start: {self.log()}")
        self.ready_seconds = ready_at - began

    def log(self) -> str:
        return (self._folder / "daemon.log").read_text(encoding="utf-8")

    def connect(self) -> Speech:
        """Return a connection to the control socket."""
        return Speech(self._folder / "control.sock")

    def speak(self, text: str) -> None:
        """Speak a text to its end; exit with the log if that fails, because the measurement would be worth nothing."""
        client = self.connect()
        client.say(text)
        if (state := client.wait()) != "played":
            raise SystemExit(f"an utterance was {state}: {self.log()}")

    def terminate(self) -> float:
        """Send SIGTERM; return the seconds until the exit."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(TIMEOUT_SECONDS)
        took = time.perf_counter() - began
        if code:
            raise SystemExit(f"the daemon ended with {code}: {self.log()}")
        return took

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


@contextlib.contextmanager
def daemon(
    folder: Path,
    ready: Ready,
    config: str = "",
    variables: Mapping[str, str] | None = None,
    module: str = "agent",
) -> Iterator[Daemon]:
    """Run a daemon with the text of a configuration, or with the defaults; ``module`` starts it."""
    arguments = []
    if config:
        (folder / "config.yaml").write_text(config)
        arguments = ["--config", str(folder / "config.yaml")]
    running = Daemon(folder, ready, arguments, variables, module)
    try:
        yield running
    finally:
        running.close()


class Speech:
    """A connection to the control socket that requests speech. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._client = Client(str(path))
        self._speech: Accepted | None = None

    def say(self, text: str) -> None:
        """Request speech and wait until it is accepted."""
        self._speech = self._client.say(text)

    def wait(self, seconds: float = TIMEOUT_SECONDS) -> str:
        """Return the state in which the requested utterance ended."""
        assert self._speech is not None
        return self._speech.wait(seconds).state

    def hush(self) -> None:
        """Cancel all speech without waiting."""
        self._client.notify("hush")

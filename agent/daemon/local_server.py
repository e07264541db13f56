"""Runs the local speech server as a child process, and restarts it when it ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.daemon.shutdown import MAX_LOCAL_SERVER_SECONDS
from agent.errors import ConfigError, ServiceError
from agent.pipeline.events import Event, WorkerCrashed
from agent.settings.model import ServerSettings
from agent.system.hosts import connect_host, websocket_url
from agent.system.systemd import child_environment
from agent.system.text import escape
from agent.system.threads import Backoff, Deadline, start_thread

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger(__name__)

PORT_RELEASE_SECONDS = 5.0
"""Wait for a port at the start. Longer than the server of a killed daemon needs to finish its sessions."""

PORT_CHECK_SECONDS = 0.2

HEALTHY_SECONDS = 30.0
"""After a server has run for this time, its restart starts again with the first backoff delay."""


class LocalServer:
    """A child process with the local speech server, restarted with backoff when it ends. Thread-safe.

    The child ends with this process, even after SIGKILL, because the pipe of its stdin closes.

    Args:
        settings: The settings of the server.
        report: Receives a ``WorkerCrashed`` with a ``ConfigError`` if another program uses the port at the start; by
            default the server waits for the port.
    """

    def __init__(self, settings: ServerSettings, report: Callable[[Event], None] | None = None) -> None:
        self._settings, self._report = settings, report
        self._changed = threading.Condition()
        self._addresses: dict[str, tuple[str, int]] = {}  # by the name of the listener in the output of the process
        self._process: subprocess.Popen[str] | None = None
        self._reason = "the process has not been started"
        self._stopping = threading.Event()
        self._is_restarting = False  # the process was terminated to restart it with other settings
        self._thread = threading.Thread(target=self._run, name="local server")

    @classmethod
    def create(
        cls, settings: ServerSettings | None, report: Callable[[Event], None] | None = None
    ) -> LocalServer | None:
        """Return a server with these settings, not started; ``None`` without settings."""
        return None if settings is None else cls(settings, report)

    def start(self) -> None:
        """Start the process in a background thread.

        Raises:
            AgentError: The system cannot create more threads.
        """
        self._reason = "the process did not start in time"
        start_thread(self._thread)

    def url(self, deadline: Deadline) -> str:
        """Wait until the server listens, and return its address as ``ws://HOST:PORT``.

        Raises:
            ServiceError: The server does not listen before the deadline, or ``stop`` was called.
        """
        return websocket_url(*self._await_address("listening", deadline))

    def wyoming_url(self, deadline: Deadline) -> str:
        """Wait until the Wyoming listener is ready, and return its address as ``tcp://HOST:PORT``.

        ``settings.wyoming`` must be a port. Raises as ``url``.
        """
        host, port = self._await_address("wyoming", deadline)
        return f"tcp://{host}:{port}"

    def _await_address(self, listener: str, deadline: Deadline) -> tuple[str, int]:
        with self._changed:
            is_known = self._changed.wait_for(
                lambda: listener in self._addresses or self._stopping.is_set(), deadline.remaining()
            )
            if not is_known:
                raise ServiceError("local", f"the local speech server cannot be used: {self._reason}")
            if listener not in self._addresses:
                raise ServiceError("local", "the local speech server is ending")
            return self._addresses[listener]

    def reconfigure(self, settings: ServerSettings) -> None:
        """Restart the server if it runs without a recognizer and ``settings`` require one."""
        if settings.recognition == "none" or self._settings.recognition != "none":
            return
        log.info("local server: restarting with a recognizer")
        with self._changed:
            self._settings = settings
            self._addresses = {}  # url() waits for the new process from now on
            if self._process is not None:
                self._is_restarting = True
                self._process.terminate()

    def stop(self, seconds: float = MAX_LOCAL_SERVER_SECONDS) -> None:
        """Stop the process. Idempotent, and safe before ``start``.

        Args:
            seconds: Time for the process to finish its current requests before it is killed.
        """
        import subprocess

        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                log.warning("local server: did not end in time, killed, timeout=%.1f s", seconds)
                process.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        backoff = Backoff(first_seconds=0.5, cap_seconds=30.0)
        while not self._stopping.is_set():
            if not self._await_port():
                return
            health = Deadline(HEALTHY_SECONDS)
            try:
                reason = f"the process ended with code {self._run_process()}"
            except (OSError, RuntimeError) as error:  # temporarily no process, descriptor or memory is available
                reason = f"the process cannot be started: {error}"
            if self._stopping.is_set():
                return
            if self._is_restarting:
                self._is_restarting = False
                continue
            self._reason = reason
            log.warning("local server: %s, restarting", reason)
            if health.is_expired:
                backoff.reset()
            self._stopping.wait(backoff.next_seconds(at_least_seconds=0.2))

    def _await_port(self) -> bool:
        """Wait while another program uses the port; return whether the server can be started."""
        from agent.system.ports import is_port_in_use  # in this thread, so that the import does not delay others

        host, port = self._settings.host, self._settings.port
        is_logged = False
        release = Deadline(PORT_RELEASE_SECONDS)
        while not self._stopping.is_set() and is_port_in_use(host, port):
            owner, is_orphan = _owner(port)
            self._reason = f"the speech server cannot listen on {host}:{port}: {owner} uses the port"
            if self._report is not None and (release.is_expired or not is_orphan):
                cure = "End it, or give this daemon another server.port and the same in transcription.url"
                error = ConfigError(f"{self._reason}. {cure}. To use a speech server there, set server.start to false")
                self._report(WorkerCrashed("local server", error))
                return False
            if not is_logged:
                log.warning("local server: waiting for the port, %s", self._reason)
                is_logged = True
            self._stopping.wait(PORT_CHECK_SECONDS if self._report is not None else 1.0)
        return not self._stopping.is_set()

    def _run_process(self) -> int:
        """Run one process to its end and return its exit code."""
        import subprocess  # imported in this thread, so that the import does not delay other threads

        settings = self._settings
        process = subprocess.Popen(
            # -P: never import from the working directory (python(1)). PYTHONPATH is the module path of this process.
            [sys.executable, "-P", "-m", "agent.server", "--with-parent", *_arguments(settings)],
            env={**child_environment(os.environ), "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            # A new session: Ctrl-C in the terminal must not end the server before the daemon has sent its end marks.
            start_new_session=True,
        )
        with self._changed:
            self._process = process
            self._is_restarting = settings is not self._settings
        assert process.stdin is not None and process.stdout is not None
        try:
            with process.stdin, process.stdout:  # closing stdin ends the server
                if self._stopping.is_set() or self._is_restarting:
                    process.terminate()
                for line in process.stdout:
                    listener, _, address = line.partition(" on ")
                    if listener in ("listening", "wyoming"):
                        self._set_address(listener, address.strip())
                return process.wait()
        finally:
            with self._changed:
                self._addresses, self._process = {}, None

    def _set_address(self, listener: str, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not (port.isascii() and port.isdecimal()):
            log.warning("local server: reported an invalid address, address=%s", escape(address, 100))
            return
        with self._changed:
            if not self._is_restarting:
                self._report = None  # from now on, a port in use only delays a restart
                self._addresses[listener] = (connect_host(host.strip("[]")), int(port))
                self._changed.notify_all()


def _owner(port: int) -> tuple[str, bool]:
    """Describe the process that uses the port, and return whether it may end without an action of the user.

    The speech server of a killed daemon ends soon. A process of another user may be such a server.
    """
    from agent.system.ports import find_port_owner, read_command

    owner = find_port_owner(port)
    if owner is None:
        return "another program", True
    if "agent.server --with-parent" not in owner.command:
        return str(owner), False
    parent = read_command(owner.parent)
    is_daemon = "voice-agent" in parent or "agent" in parent.split()
    if owner.parent == 1 or not is_daemon:  # its parent has ended: the new parent is init or a subreaper
        return f"the speech server of another daemon (process {owner.pid})", True
    return f"another daemon (process {owner.parent})", False


def _arguments(settings: ServerSettings) -> list[str]:
    arguments = ["--host", settings.host, "--port", str(settings.port)]
    arguments += ["--speech", settings.speech, "--recognition", settings.recognition]
    if settings.wyoming != "none":
        arguments += ["--wyoming", str(settings.wyoming)]
    arguments += ["--log-level", "warning"]  # its info lines only report connections, mostly of this daemon
    for origin in settings.allow_origins:
        arguments += ["--allow-origin", origin]
    if settings.model_path:
        arguments += ["--model-path", settings.model_path]
    if settings.script:
        arguments += ["--script", settings.script]
    return arguments

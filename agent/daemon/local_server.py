"""The daemon's own speech server: a child process, started when something is ``local``, kept alive, ended last."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from agent.errors import ServiceError
from agent.settings.model import ServerSettings
from agent.system.hosts import connect_host, websocket_url
from agent.system.systemd import child_environment
from agent.system.text import escape
from agent.system.threads import Backoff, Deadline, start_thread

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger(__name__)

STOP_SECONDS = 3.0
HEALTHY_SECONDS = 30.0


class LocalServer:
    """A local speech server of one's own.

    ``start`` returns at once; ``url`` waits until it accepts. When it dies it is started again, after a pause that
    grows. It ends with this process, whatever happens to that. ``stop`` lets it finish what it is saying.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._address: tuple[str, int] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reason = "it has not been started"
        self._stopping = threading.Event()
        self._anew = False  # whether it is ended only to be started again, with other settings
        self._keeper = threading.Thread(target=self._keep, name="local server")

    @classmethod
    def of(cls, settings: ServerSettings | None) -> LocalServer | None:
        return None if settings is None else cls(settings)

    def start(self) -> None:
        self._reason = "it did not start in time"
        start_thread(self._keeper)

    def url(self, deadline: Deadline) -> str:
        """Where it listens, as ``ws://HOST:PORT``. Blocks until it does; raises ``ServiceError`` where it does not."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._address or self._stopping.is_set(), deadline.remaining()):
                raise ServiceError("local", f"the local speech server cannot be used: {self._reason}")
            if self._address is None:
                raise ServiceError("local", "the local speech server is ending")
            return websocket_url(*self._address)

    def use(self, settings: ServerSettings) -> None:
        """Where it was started without ears and ``settings`` want some, it ends what it is saying and is begun anew."""
        if settings.recognition == "none" or self._settings.recognition != "none":
            return
        log.info("the local speech server is started anew: now it is to recognise speech too")
        with self._changed:
            self._settings = settings
            self._address = None  # who asks from now on waits for the new one
            if self._process is not None:
                self._anew = True
                self._process.terminate()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Gives it ``seconds`` to end by itself. Safe twice, and before ``start``."""
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
                log.warning("the local speech server did not end in time and was killed")
                process.kill()
        if self._keeper.ident is not None:
            self._keeper.join()

    def _keep(self) -> None:
        backoff = Backoff(first_seconds=0.5, cap_seconds=30.0)
        while not self._stopping.is_set():
            lived = Deadline(HEALTHY_SECONDS)
            try:
                reason = f"it ended with code {self._run()}"
            except (OSError, RuntimeError) as error:  # no more processes, descriptors or memory for now
                reason = f"it cannot be started: {error}"
            if self._stopping.is_set():
                return
            if self._anew:
                self._anew = False
                continue
            self._reason = reason
            log.warning("the local speech server: %s; it is started again", reason)
            if lived.is_expired:
                backoff.reset()
            self._stopping.wait(backoff.next_seconds(at_least_seconds=0.2))

    def _run(self) -> int:
        import subprocess  # in the keeper's thread: nobody else waits for what it loads

        settings = self._settings
        process = subprocess.Popen(
            # -P: what lies in the working directory is none of ours. Its modules are found where ours are found.
            [sys.executable, "-P", "-m", "agent.server", "--with-parent", *_arguments(settings)],
            env={**child_environment(os.environ), "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C is for the daemon, which still needs the server to end in good order.
            start_new_session=True,
        )
        with self._changed:
            self._process = process
            self._anew = settings is not self._settings
        assert process.stdin is not None and process.stdout is not None
        try:
            with process.stdin, process.stdout:  # closing the one ends the server, whatever goes wrong here
                if self._stopping.is_set() or self._anew:
                    process.terminate()
                for line in process.stdout:
                    if line.startswith("listening on "):
                        self._listens(line.removeprefix("listening on ").strip())
                return process.wait()
        finally:
            with self._changed:
                self._address = self._process = None

    def _listens(self, where: str) -> None:
        host, _, port = where.rpartition(":")
        if not (port.isascii() and port.isdecimal()):
            log.warning("the local speech server says that it listens on %s, which is no address", escape(where, 100))
            return
        with self._changed:
            if not self._anew:
                self._address = (connect_host(host.strip("[]")), int(port))
                self._changed.notify_all()


def _arguments(settings: ServerSettings) -> list[str]:
    arguments = ["--host", settings.host, "--port", str(settings.port)]
    arguments += ["--speech", settings.speech, "--recognition", settings.recognition]
    arguments += ["--log-level", "warning"]  # who comes and goes is ourselves
    if settings.model_path:
        arguments += ["--model-path", settings.model_path]
    if settings.script:
        arguments += ["--script", settings.script]
    return arguments

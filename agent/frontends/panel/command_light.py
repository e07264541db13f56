"""Shows the state with a program of the user, which is started for each state."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping

from agent.frontends.state_follower import OFF, StateFollower
from agent.pipeline.events import Event
from agent.system.child import Child, describe_exit, private_environment
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 2.0


class CommandLight(StateFollower):
    """Starts a program for each state, one process at a time. While it runs, only the newest state is kept.

    Thread-safe like ``StateFollower``.

    Args:
        command: The program and its arguments. The state is added as the last argument.
        environ: The environment of the daemon.
        report: Receives the events of the frontend.
        timeout_seconds: Maximum run time of the program; then its process group is killed.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        environ: Mapping[str, str],
        report: Callable[[Event], None],
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        super().__init__("light", report)
        self._command, self._environ = command, private_environment(environ)
        self._timeout_seconds = timeout_seconds
        self._child: Child | None = None

    def run(self) -> None:
        wanted = started = None
        deadline = Deadline(None)
        try:
            while not self.is_aborted:
                if self._child is None and wanted != started:
                    started = wanted
                    self._start(str(wanted))
                    deadline = Deadline(self._timeout_seconds)
                if self._child is None:
                    if started == OFF:
                        return
                    wanted = self.wait(None) or wanted
                else:
                    wanted = self.wait(deadline.remaining(), [self._child.fileno()]) or wanted
                    self._check(self._child, deadline)
        finally:
            if self._child is not None:
                self._child.kill()
            self.close()

    def _start(self, state: str) -> None:
        try:
            self._child = Child([*self._command, state], self._environ)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.log_problem(f"the command cannot be started: {error}")

    def _check(self, child: Child, deadline: Deadline) -> None:
        """Process the end of the command, or kill it after the timeout."""
        if child.has_ended(0.0):
            child.kill_group(signal.SIGKILL)  # the remaining processes of the group
            code = child.reap()
            child.close()
            self._child = None
            problem = f"the command failed: {describe_exit(code)}. Start it by hand with a state to see why"
            self.log_problem(problem if code else None)
        elif deadline.is_expired:
            self.log_problem(f"the command did not end within {self._timeout_seconds:g} s and was killed")
            child.kill()
            self._child = None

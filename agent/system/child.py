"""A child process in a process group of its own, whose end is a readable descriptor."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from agent.system.systemd import child_environment

REAP_SECONDS = 0.2
"""After SIGKILL; a process in an uninterruptible call is left to the system."""


class Child:
    """A program that runs in a process group of its own.

    Not thread-safe; owned by the thread that waits for the process. A child that has ended needs ``reap``, then
    ``close``; ``kill`` ends one that runs and does both.

    Args:
        argv: The program and its arguments, started without a shell.
        environ: The whole environment of the process.
        stdin: As for ``subprocess.Popen``; the same for ``stdout`` and ``stderr``. Pipes are not buffered.

    Raises:
        OSError: The process cannot be started or watched. ``ValueError`` and ``subprocess.SubprocessError`` as for
            ``subprocess.Popen``.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> None:
        self._process = subprocess.Popen(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0, env=environ, start_new_session=True
        )
        self.stdin, self.stdout, self.stderr = self._process.stdin, self._process.stdout, self._process.stderr
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self.kill_group(signal.SIGKILL)
            self._process.wait()
            self._close_pipes()
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable after the end of the process."""
        return self._pidfd

    @property
    def is_reaped(self) -> bool:
        return self._process.returncode is not None

    def kill_group(self, number: int) -> None:
        """Send a signal to the process group. Its remaining processes may run as another user, or have ended."""
        # Until the process is reaped, its number, which is also that of its group, is not used again.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def has_ended(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end of the process; return whether it has ended."""
        poll = select.poll()  # select(2) is limited to descriptors below 1024
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def reap(self) -> int:
        """Wait for the end of the process, and return its exit code; negative: the number of the signal."""
        return self._process.wait()

    def kill(self) -> None:
        """Kill the process group and release everything. Waits at most ``REAP_SECONDS`` for the end of the process."""
        self.kill_group(signal.SIGKILL)
        if self.has_ended(REAP_SECONDS):
            self.reap()
        self.close()

    def close(self) -> None:
        """Release the descriptors."""
        self._close_pipes()
        os.close(self._pidfd)

    def _close_pipes(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()


def describe_exit(code: int) -> str:
    """Return the words for an exit code of ``Child.reap``."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def private_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without ``VOICE_AGENT_*`` and the variables of the service manager."""
    return {name: value for name, value in child_environment(environ).items() if not name.startswith("VOICE_AGENT_")}

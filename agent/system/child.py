"""Runs a child process in its own process group; a descriptor becomes readable when the process ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from agent.system.systemd import child_environment

REAP_SECONDS = 0.2
"""Longest wait after SIGKILL. A process in an uninterruptible system call may end later, without being reaped here."""


class Child:
    """A program that runs in its own process group.

    Not thread-safe; owned by the thread that waits for the process. After the process has ended, call ``reap``, then
    ``close``. To end a running process, call ``kill``, which does both.

    Args:
        argv: The program and its arguments, started without a shell.
        environ: The complete environment of the process.
        stdin: As for ``subprocess.Popen``. Pipes are not buffered.
        stdout: As ``stdin``.
        stderr: As ``stdin``.

    Raises:
        OSError: The process cannot be started or watched.
        ValueError: As for ``subprocess.Popen``.
        subprocess.SubprocessError: As for ``subprocess.Popen``.
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
        """Return a descriptor that becomes readable when the process ends."""
        return self._pidfd

    @property
    def is_reaped(self) -> bool:
        return self._process.returncode is not None

    def kill_group(self, number: int) -> None:
        """Send a signal to the process group. Ignores that the processes have ended, or run as another user."""
        # The process ID, which is also the group ID, is not reused before the process is reaped.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def has_ended(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end of the process; return whether it has ended."""
        poll = select.poll()  # select(2) is limited to descriptors below 1024
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def reap(self) -> int:
        """Wait for the end of the process and return its exit code; ``-N`` if signal ``N`` ended it."""
        return self._process.wait()

    def kill(self) -> None:
        """Kill the process group, wait at most ``REAP_SECONDS`` to reap the process, and release the descriptors."""
        self.kill_group(signal.SIGKILL)
        if self.has_ended(REAP_SECONDS):
            self.reap()
        self.close()

    def close(self) -> None:
        """Close the pipes and the descriptor of the process."""
        self._close_pipes()
        os.close(self._pidfd)

    def _close_pipes(self) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()


def describe_exit(code: int) -> str:
    """Describe an exit code of ``Child.reap``, for a message."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def private_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``child_environment`` without all ``VOICE_AGENT_*`` variables."""
    return {name: value for name, value in child_environment(environ).items() if not name.startswith("VOICE_AGENT_")}

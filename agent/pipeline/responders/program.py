"""Runs a program on this machine, without a shell, and yields what it prints."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Generator
from subprocess import PIPE
from typing import IO

from agent.errors import ServiceError
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS
from agent.services.protocols.parsing import excerpt
from agent.system.child import Child, private_environment
from agent.system.threads import Deadline

TERM_SECONDS = 0.5
"""Time between SIGTERM and SIGKILL, at every cancel. It does not add to the shutdown time: the shutdown first aborts
the reply, and a separate deadline limits the wait for the responder thread."""

_READ_BYTES = 1 << 16
_STDERR_BYTES = 4096


def run_program(
    service: str, argv: tuple[str, ...], stdin: bytes, timeout_seconds: float, max_bytes: int
) -> Generator[bytes, None, None]:
    """Run a program and yield its output; yield an empty piece at least every ``MAX_SILENCE_SECONDS``.

    A timeout, too much output or closing the generator ends the process group of the program: SIGTERM, then SIGKILL
    after ``TERM_SECONDS``. Background processes of a program that has exited keep running.

    Args:
        service: The name in errors.
        argv: The program and its arguments.
        stdin: The standard input of the program.
        timeout_seconds: The timeout for the whole run.
        max_bytes: The limit for the output.

    Raises:
        ServiceError: The program cannot be started, fails (with the last line of its stderr), or exceeds a limit.
    """
    deadline = Deadline(timeout_seconds)
    run = ProgramRun(service, argv, stdin)
    room = max_bytes
    try:
        while not run.has_ended:
            if deadline.is_expired:
                raise ServiceError(
                    service, f"the program did not finish within {timeout_seconds:g} s and was terminated"
                )
            printed = run.read_output(deadline.within(MAX_SILENCE_SECONDS))
            yield printed[:room]
            room -= len(printed)
            if room < 0:
                raise ServiceError(service, f"the program printed more than {max_bytes} bytes and was terminated")
        run.check_exit()
    finally:
        run.close()


class ProgramRun:
    """One run of a program. Not thread-safe; owned by the thread that reads its output. The owner must call ``close``.

    The environment contains no keys of the daemon (see ``private_environment``).

    Args:
        service: The name in errors.
        argv: The program and its arguments.
        stdin: The standard input of the program.

    Raises:
        ServiceError: The program cannot be started.
    """

    def __init__(self, service: str, argv: tuple[str, ...], stdin: bytes) -> None:
        self.has_ended = False
        self._service = service
        self._program = argv[0]
        self._unsent = memoryview(stdin)
        self._stderr_tail = b""
        try:
            self._child = Child(argv, private_environment(os.environ), stdin=PIPE, stdout=PIPE, stderr=PIPE)
        except OSError as error:
            raise ServiceError(
                self._service, f"{argv[0]} cannot be started: {error.strerror}", permanent=True
            ) from error
        try:
            self._select = selectors.DefaultSelector()
        except OSError as error:
            self._child.kill_group(signal.SIGKILL)
            self._child.reap()
            self._child.close()
            raise ServiceError(self._service, f"{argv[0]} cannot be watched: {error.strerror}") from error
        self._select.register(self._child, selectors.EVENT_READ)
        for pipe, wanted in ((self._stdin, selectors.EVENT_WRITE), (self._stdout, 1), (self._stderr, 1)):
            os.set_blocking(pipe.fileno(), False)
            self._select.register(pipe, wanted)

    def read_output(self, deadline: Deadline) -> bytes:
        """Wait until the process has output, accepts input or exits, and return the available output."""
        printed = b""
        ready = {key.fileobj for key, _ in self._select.select(deadline.remaining())}
        if self._stdin in ready:
            self._write_stdin()
        if self._stderr in ready:
            self._stderr_tail = (self._stderr_tail + self._read(self._stderr))[-_STDERR_BYTES:]
        if self._stdout in ready:
            printed = self._read(self._stdout)
        # A background process may keep stdout open, so the end of stdout cannot mark the end of the run. The run ends
        # when the program has exited and no output is available.
        if self._child in ready and not printed:
            self.has_ended = True
        return printed

    def check_exit(self) -> None:
        """Raise ``ServiceError`` if the exit code of the program is not 0."""
        status = self._child.reap()
        if status == 0:
            return
        lines = self._stderr_tail.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"ended with exit code {status}" if status > 0 else f"was terminated by signal {-status}"
        detail = f"; its last line on stderr: {excerpt(last)}" if last else ""
        raise ServiceError(self._service, f"{self._program} {how}{detail}")

    def close(self) -> None:
        """End the process group if the program still runs, and release everything."""
        if not self._child.is_reaped:
            if not self._child.has_ended(0.0):
                self._child.kill_group(signal.SIGTERM)
                self._child.has_ended(TERM_SECONDS)
                self._child.kill_group(signal.SIGKILL)
            self._child.reap()
        self._select.close()
        self._child.close()

    def _write_stdin(self) -> None:
        try:
            self._unsent = self._unsent[self._stdin.write(self._unsent) or 0 :]
        except BrokenPipeError:
            self._unsent = memoryview(b"")  # the program closed its stdin, which is allowed
        if not self._unsent:
            self._select.unregister(self._stdin)
            self._stdin.close()

    def _read(self, pipe: IO[bytes]) -> bytes:
        data = pipe.read(_READ_BYTES)
        if data == b"":
            self._select.unregister(pipe)
        return data or b""

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._child.stdin is not None
        return self._child.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._child.stderr is not None
        return self._child.stderr

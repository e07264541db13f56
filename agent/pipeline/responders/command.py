"""The responder that runs a program on this machine, without a shell."""

from __future__ import annotations

import codecs
import os
import selectors
import signal
from collections.abc import Iterator
from subprocess import PIPE
from typing import IO

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS, ReplyPieces, ResponderKind, StatelessResponder
from agent.pipeline.responders.settings import ResponderSettings
from agent.services.protocols.parsing import excerpt
from agent.system.child import Child, private_environment
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

SERVICE = "command"
TERM_SECONDS = 0.5
"""Time between SIGTERM and SIGKILL. It applies to every cancel and is no part of the shutdown: the shutdown aborts the
reply first, and its own deadline for the stages limits the wait for the responder thread."""

_READ_BYTES = 1 << 16
_STDERR_BYTES = 4096


class CommandResponder(StatelessResponder):
    """Runs a program for each turn. Not thread-safe; owned by the responder thread.

    The program reads the transcript from stdin (UTF-8, one line). Its output is spoken sentence by sentence while it
    is printed. A timeout, too much output or a cancel ends its process group: SIGTERM, then SIGKILL after
    ``TERM_SECONDS``. Background processes of a program that has exited keep running. The environment holds no keys of
    the daemon (see ``private_environment``).

    Args:
        settings: The program and its limits.
        timeout_seconds: The limit for a complete reply.

    Raises:
        ConfigError: No program is configured.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0) -> None:
        if not settings.argv or not settings.argv[0]:
            raise ConfigError("responder.command.argv is empty: set it to a list of the program and its arguments")
        if any("\0" in word for word in settings.argv):
            raise ConfigError("responder.command.argv contains a NUL character: remove it")
        self._argv = settings.argv
        self._output_bytes = settings.output_bytes
        self._timeout = timeout_seconds

    def reply(self, text: str, turn: int) -> ReplyPieces:
        """Raises ``ServiceError`` with the last line of stderr if the program fails or exceeds a limit."""
        deadline = Deadline(self._timeout)
        run = _Run(self._argv, fix_surrogates(text).encode("utf-8") + b"\n")
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        room = self._output_bytes
        try:
            while not run.has_ended:
                if deadline.is_expired:
                    raise ServiceError(
                        SERVICE, f"the program did not finish within {self._timeout:g} s and was terminated"
                    )
                printed = run.read_output(deadline.within(MAX_SILENCE_SECONDS))
                yield decoder.decode(printed[:room])
                room -= len(printed)
                if room < 0:
                    raise ServiceError(
                        SERVICE, f"the program printed more than {self._output_bytes} bytes and was terminated"
                    )
            yield decoder.decode(b"", final=True)
            run.check_exit()
        finally:
            run.close()
        return None


class _Run:
    """One run of the program. Not thread-safe; owned by the responder thread. ``close`` releases everything."""

    def __init__(self, argv: tuple[str, ...], stdin: bytes) -> None:
        self.has_ended = False
        self._program = argv[0]
        self._unsent = memoryview(stdin)
        self._stderr_tail = b""
        try:
            self._child = Child(argv, private_environment(os.environ), stdin=PIPE, stdout=PIPE, stderr=PIPE)
        except OSError as error:
            raise ServiceError(SERVICE, f"{argv[0]} cannot be started: {error.strerror}", permanent=True) from error
        try:
            self._select = selectors.DefaultSelector()
        except OSError as error:
            self._child.kill_group(signal.SIGKILL)
            self._child.reap()
            self._child.close()
            raise ServiceError(SERVICE, f"{argv[0]} cannot be watched: {error.strerror}") from error
        self._select.register(self._child, selectors.EVENT_READ)
        for pipe, wanted in ((self._stdin, selectors.EVENT_WRITE), (self._stdout, 1), (self._stderr, 1)):
            os.set_blocking(pipe.fileno(), False)
            self._select.register(pipe, wanted)

    def read_output(self, deadline: Deadline) -> bytes:
        """Wait for an event of the process, and return the output that is available."""
        printed = b""
        ready = {key.fileobj for key, _ in self._select.select(deadline.remaining())}
        if self._stdin in ready:
            self._write_stdin()
        if self._stderr in ready:
            self._stderr_tail = (self._stderr_tail + self._read(self._stderr))[-_STDERR_BYTES:]
        if self._stdout in ready:
            printed = self._read(self._stdout)
        # A background process may keep stdout open, so the exit of the program counts after all output was read.
        if self._child in ready and not printed:
            self.has_ended = True
        return printed

    def check_exit(self) -> None:
        """Raise ``ServiceError`` if the program did not exit with 0."""
        status = self._child.reap()
        if status == 0:
            return
        lines = self._stderr_tail.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"ended with exit code {status}" if status > 0 else f"was terminated by signal {-status}"
        detail = f"; its last line on stderr: {excerpt(last)}" if last else ""
        raise ServiceError(SERVICE, f"{self._program} {how}{detail}")

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


@section
class Settings(NamedTuple):
    """A program on this machine."""

    argv: tuple[str, ...] = key(
        (),
        "program and arguments, started without a shell; the user's words are its standard input",
        note="For example [/usr/local/bin/answer, --brief]",
    )
    output_bytes: int = key(65536, "longest output; the rest is cut off", low=1, high=1048576)


def _check_used(settings: Settings) -> Iterator[Finding]:
    import shutil  # 2 ms that only this responder costs

    argv = settings.argv
    if not argv or not argv[0]:
        what = "responder.kind is command and the program is missing, expected [PROGRAM, ARGUMENT, ...]"
        yield Finding("argv", what)
    elif shutil.which(argv[0]) is None:
        yield Finding("argv", f"there is no program {argv[0]}, expected one that can be started")


def _make(responder: ResponderSettings) -> CommandResponder:
    return CommandResponder(responder.settings("command"), responder.timeout_seconds)


RESPONDER = ResponderKind(_make, Settings, _check_used, has_effects=True)

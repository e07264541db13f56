"""The responder that asks a program on this machine, never a shell."""

from __future__ import annotations

import codecs
import os
import select
import selectors
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from agent.config.errors import Finding
from agent.config.fields import key
from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS, ReplyPieces, ResponderKind
from agent.pipeline.responders.settings import ResponderSettings
from agent.pipeline.text_splitter import SentenceSplitter
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates
from agent.system.systemd import child_environment
from agent.system.threads import Deadline

SERVICE = "command"
TERM_SECONDS = 0.5
_READ_BYTES = 1 << 16
_STDERR_BYTES = 4096


class CommandResponder:
    """Runs a program for each turn: what was heard, as UTF-8 and a line break, is its stdin; what it prints is spoken,
    sentence by sentence as it is printed.

    It has ``timeout_seconds`` and ``output_bytes``; past either, and when the answer is not wanted any more, its whole
    process group is ended, with SIGTERM and after half a second with SIGKILL. Then, and where it exits with something
    other than 0, ``ServiceError`` says so, with the last line it wrote on stderr. What it leaves running in the
    background when it exits is not touched. It does not get our keys: ``VOICE_AGENT_*`` and what the service manager
    set are taken out of its environment. Raises ``ConfigError`` where no program is configured.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0) -> None:
        if not settings.argv or not settings.argv[0]:
            raise ConfigError("responder.command.argv is empty: put the program and its arguments there, as a list")
        if any("\0" in word for word in settings.argv):
            raise ConfigError("responder.command.argv holds a NUL character: take it out")
        self._argv = settings.argv
        self._output_bytes = settings.output_bytes
        self._timeout = timeout_seconds

    def reply(self, text: str, turn: int) -> ReplyPieces:
        deadline = Deadline(self._timeout)
        run = _Run(self._argv, fix_surrogates(text).encode("utf-8") + b"\n")
        sentences = SentenceSplitter()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        room = self._output_bytes
        try:
            while not run.over:
                if deadline.is_expired:
                    raise ServiceError(SERVICE, f"it was not done within {self._timeout:g} s and was ended")
                printed = run.look(deadline.within(MAX_SILENCE_SECONDS))
                yield from sentences.feed(decoder.decode(printed[:room])) or [""]
                room -= len(printed)
                if room < 0:
                    raise ServiceError(SERVICE, f"it printed more than {self._output_bytes} bytes and was ended")
            yield from sentences.feed(decoder.decode(b"", final=True))
            if rest := sentences.flush():
                yield rest
            run.judge()
        finally:
            run.end()

    def close(self) -> None:
        """Nothing is kept between answers."""


class _Run:
    """One run of the program, with everything it holds; ``end`` gives all of it back."""

    def __init__(self, argv: tuple[str, ...], said: bytes) -> None:
        self.over = False
        self._program = argv[0]
        self._said = memoryview(said)
        self._complaint = b""
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=environment(os.environ),
            )
        except OSError as error:
            raise ServiceError(SERVICE, f"{argv[0]} cannot be run: {error.strerror}", permanent=True) from error
        try:
            self._ended = os.pidfd_open(self._process.pid)
            self._select = selectors.DefaultSelector()
        except OSError as error:
            self._kill(signal.SIGKILL)
            self._process.communicate()
            raise ServiceError(SERVICE, f"{argv[0]} cannot be watched: {error.strerror}") from error
        self._select.register(self._ended, selectors.EVENT_READ, "end")
        for pipe, wanted in ((self._stdin, selectors.EVENT_WRITE), (self._stdout, 1), (self._stderr, 1)):
            os.set_blocking(pipe.fileno(), False)
            self._select.register(pipe, wanted)

    def look(self, deadline: Deadline) -> bytes:
        """What it has printed by now; waits for something to happen."""
        printed = b""
        ready = {key.fileobj for key, _ in self._select.select(deadline.remaining())}
        if self._stdin in ready:
            self._tell()
        if self._stderr in ready:
            self._complaint = (self._complaint + self._read(self._stderr))[-_STDERR_BYTES:]
        if self._stdout in ready:
            printed = self._read(self._stdout)
        # Something it left in the background may hold its stdout open: its own exit, with nothing more to read, counts.
        if self._ended in ready and not printed:
            self.over = True
        return printed

    def judge(self) -> None:
        """Raises where it did not end well."""
        status = self._process.wait()
        if status == 0:
            return
        lines = self._complaint.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"ended with exit code {status}" if status > 0 else f"was ended by signal {-status}"
        said = f"; its last words were {excerpt(last)}" if last else ""
        raise ServiceError(SERVICE, f"{self._program} {how}{said}")

    def end(self) -> None:
        """Ends the whole process group where the program itself still runs, and gives everything back."""
        # Until it has been waited for, its number, which is its group's, cannot belong to anybody else.
        if self._process.returncode is None:
            if not self._has_ended(0.0):
                self._kill(signal.SIGTERM)
                self._has_ended(TERM_SECONDS)
                self._kill(signal.SIGKILL)
            self._process.wait()
        self._select.close()
        os.close(self._ended)
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()

    def _has_ended(self, seconds: float) -> bool:
        poll = select.poll()  # select() knows no descriptor above 1023
        poll.register(self._ended, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _kill(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # all of it has gone, or what is left belongs to somebody else

    def _tell(self) -> None:
        try:
            self._said = self._said[self._stdin.write(self._said) or 0 :]
        except BrokenPipeError:
            self._said = memoryview(b"")  # it does not want to know, which is its right
        if not self._said:
            self._select.unregister(self._stdin)
            self._stdin.close()

    def _read(self, pipe: IO[bytes]) -> bytes:
        got = pipe.read(_READ_BYTES)
        if got == b"":
            self._select.unregister(pipe)
        return got or b""

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._process.stderr is not None
        return self._process.stderr


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the program may know of our environment."""
    return {name: value for name, value in child_environment(ours).items() if not name.startswith("VOICE_AGENT_")}


@dataclass(frozen=True)
class Settings:
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


RESPONDER = ResponderKind(_make, Settings, _check_used)

"""The responder that runs a program on this machine, without a shell."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import closing

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.errors import ConfigError
from agent.pipeline.responders.program import run_program
from agent.pipeline.responders.responder import DeviceContext, ReplyPieces, ResponderKind, StatelessResponder
from agent.pipeline.responders.settings import ResponderSettings
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

SERVICE = "command"


class CommandResponder(StatelessResponder):
    """Runs a program for each turn. Not thread-safe; owned by the responder thread.

    The program reads the transcript from stdin (UTF-8, one line). Its output is spoken sentence by sentence while it
    is printed. A timeout, too much output or a cancel ends the process group of the program: SIGTERM, then SIGKILL
    after ``TERM_SECONDS``. Background processes of a program that has exited keep running. The environment contains no
    keys of the daemon (see ``private_environment``).

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
        """Yield the output of the program.

        Raises:
            ServiceError: The program fails (with the last line of its stderr), or exceeds a limit.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        stdin = fix_surrogates(text).encode("utf-8") + b"\n"
        with closing(run_program(SERVICE, self._argv, stdin, self._timeout, self._output_bytes)) as output:
            for printed in output:
                yield decoder.decode(printed)
        yield decoder.decode(b"", final=True)
        return None


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
    import shutil  # imported here because it takes 2 ms, and only this responder needs it

    argv = settings.argv
    if not argv or not argv[0]:
        what = "responder.kind is command and the program is missing, expected [PROGRAM, ARGUMENT, ...]"
        yield Finding("argv", what)
    elif shutil.which(argv[0]) is None:
        yield Finding("argv", f"there is no program {argv[0]}, expected one that can be started")


def _make(responder: ResponderSettings, device: DeviceContext) -> CommandResponder:
    return CommandResponder(responder.settings("command"), responder.timeout_seconds)


RESPONDER = ResponderKind(_make, Settings, _check_used, has_effects=True)

"""The command line: parses the arguments, runs one command and returns its exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent import __version__
from agent.config.errors import ConfigIssues
from agent.config.fields import iter_secrets
from agent.config.secrets import hide_keys
from agent.errors import AgentError, ConfigError, UsageError
from agent.services.registry import SERVICES
from agent.settings.loader import load_with_origins
from agent.settings.model import Config
from agent.system import stdio
from agent.system.limits import describe_no_descriptor, require_descriptors
from agent.system.log import set_level, set_up_logging
from agent.system.text import escape

if TYPE_CHECKING:
    import argparse

    Options = argparse.Namespace

log = logging.getLogger(__name__)

RUN_HELP = "run the daemon in the foreground"
MAX_PERCENT = 100
_CLIENT_COMMANDS = frozenset({"status", "hush", "volume", "mute", "unmute", "config", "--help", "-h", "--version"})
"""Commands that need only the standard streams and one more descriptor."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; ``None`` for those of this process.

    Returns:
        0 done; 2 usage; 3 cancelled ``say``; 69 a service could not be reached; 70 internal failure; 78 configuration.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    stdio.open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal with another encoding shows "?" for a character it lacks; without this print() raises.
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="replace")
    try:
        code = _dispatch(words)
        stdio.flush_stdout()
        return code
    except AgentError as error:
        for line in str(error).splitlines():
            print(f"voice-agent: {escape(line)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        stdio.discard_stdout()  # the reader closed the pipe, as "head" does; Python's flush at exit would fail as well
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - an internal failure: the stack is printed, the exit code is the contract's
        if isinstance(error, OSError) and (reason := stdio.describe_write_error(error)):
            stdio.discard_stdout()
            print(f"voice-agent: {reason}", file=sys.stderr)
            return UsageError.exit_code
        if reason := describe_no_descriptor(error):
            print(f"voice-agent: {reason}", file=sys.stderr)
            return ConfigError.exit_code
        traceback.print_exc()
        return AgentError.exit_code


def _dispatch(words: list[str]) -> int:
    if words and words[0] not in _CLIENT_COMMANDS:
        require_descriptors()
    if words[:1] == ["server"]:
        from agent.server.main import main as serve

        return serve(words[1:])
    if (
        words == ["run"]
        or words[:2] in (["run", "--config"], ["run", "-c"])
        and len(words) == 3
        and not words[2].startswith("-")
    ):
        return _run_daemon(words[2] if len(words) == 3 else None)  # as in the units: without argparse
    try:
        options = build_run_parser().parse_args(words[1:]) if words[:1] == ["run"] else _parse(words)
    except SystemExit:
        stdio.flush_stdout()  # after --help and --version
        raise
    run: Callable[[Options], int] = options.run
    return run(options)


# --- parsers


def _parse(words: list[str]) -> Options:
    """Parse the words of any command; a usage error prints the usage of that command, not of all commands."""
    options, unknown = build_parser().parse_known_args(words)
    if unknown:
        parser: argparse.ArgumentParser = options.parser
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. ``server`` has its own parser, and so has ``run`` (``build_run_parser``)."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="voice-agent", description="Listen to speech, request a reply and speak it, as a daemon or by command."
    )
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _add_command(commands, "run", _run, RUN_HELP)

    say = _add_command(commands, "say", _say, "speak a text, or stdin while it arrives")
    say.add_argument(
        "-s", "--service", choices=tuple(SERVICES), help="use this speech service (default: as configured)"
    )
    say.add_argument(
        "-o", "--output", metavar="FILE", help="write a WAV file, or WAV to stdout (-), instead of playing"
    )
    say.add_argument("--fallback", metavar="FILE", help="write to this file if there is no sound card")
    say.add_argument("-w", "--wait", action="store_true", help="wait until the text is spoken (always the case)")
    say.add_argument("text", nargs="+", metavar="TEXT", help="speak these words, or stdin (-)")

    transcribe = _add_command(
        commands, "transcribe", _transcribe, "transcribe a file, stdin or the microphone", json=True
    )
    help = "read a WAV file, or raw 16 kHz mono s16le from stdin (-); default: the microphone"
    transcribe.add_argument("source", nargs="?", metavar="FILE", help=help)

    demo = _add_command(commands, "demo", _demo, "show one whole turn on the local server, with a timeline", json=True)
    demo.add_argument(
        "-s", "--service", choices=tuple(SERVICES), default="local", help="use the wire protocol of this service"
    )
    demo.add_argument("--question", metavar="TEXT", help="ask this question")
    demo.add_argument("-o", "--output", metavar="FILE", help="write the reply to a WAV file instead of playing it")

    status = _add_command(commands, "status", _status, "show the status of the running daemon", json=True)
    status.add_argument("--check", action="store_true", help="print nothing; end with 69 if it cannot speak or listen")
    _add_command(commands, "hush", _hush, "stop the running daemon's speech and clear its queue")

    volume = _add_command(commands, "volume", _volume, "show or set the playback volume (persists across restarts)")
    volume.add_argument("percent", nargs="?", type=_percent, metavar="PERCENT", help="set the volume, from 0 to 100")

    for name in ("mute", "unmute"):
        mute = _add_command(commands, name, _mute, f"{name} the running daemon's speaker or microphone")
        mute.add_argument("device", choices=("speaker", "microphone"), help=f"{name} this device")
        mute.set_defaults(muted=name == "mute")

    commands.add_parser("server", help="run the local speech server (server --help lists its options)", add_help=False)

    _add_command(
        commands, "devices", _devices, "list sound cards and the matching device: setting", json=True, config=False
    )

    meter = _add_command(commands, "meter", _meter, "show the microphone level as a live bar", json=True)
    meter.add_argument("--seconds", type=float, metavar="SECONDS", help="stop after this time (default: at Ctrl-C)")

    _add_command(commands, "voices", _voices, "list the voices of the local speech engines", json=True, config=False)

    _add_command(commands, "test-speaker", _test_speaker, "play three tones and a sentence")
    _add_command(
        commands,
        "test-microphone",
        _test_microphone,
        "record 3 seconds, judge the recording and play it back",
        json=True,
    )

    doctor = _add_command(commands, "doctor", _doctor, "check everything and show how to fix each error", json=True)
    doctor.add_argument("--bundle", metavar="FILE", help="write a support archive (.tar.gz), with the keys masked")
    doctor.add_argument("--here", action="store_true", help="check as root instead of as the service (only with sudo)")

    config = _add_command(commands, "config", _config, "check, show or describe the configuration", json=True)
    help = (
        "check: report every error; show: print all values with their origin; schema: print the JSON Schema of all keys"
    )
    config.add_argument("what", choices=("check", "show", "schema"), help=help)
    return parser


def build_run_parser() -> argparse.ArgumentParser:
    """Return the parser of ``run`` alone: creating the other parsers takes a tenth of the daemon's start time."""
    import argparse

    parser = argparse.ArgumentParser(prog="voice-agent run", description=_sentence(RUN_HELP))
    _add_config(parser)
    parser.set_defaults(run=_run)
    return parser


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[Options], int],
    help: str,
    *,
    config: bool = True,
    json: bool = False,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=_sentence(help))
    parser.set_defaults(run=run, parser=parser)
    if config:
        _add_config(parser)
    if json:
        parser.add_argument("-j", "--json", action="store_true", help="print JSON")
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    help = "read this configuration (default: /etc/voice-agent/config.yaml, if it exists)"
    parser.add_argument("-c", "--config", metavar="FILE", help=help)


def _sentence(help: str) -> str:
    return f"{help[0].upper()}{help[1:]}."


def _percent(word: str) -> int:
    import argparse

    if not (word.isascii() and word.isdecimal() and int(word) <= MAX_PERCENT):
        raise argparse.ArgumentTypeError(f"the volume has to be a whole number from 0 to {MAX_PERCENT}, not {word!r}")
    return int(word)


# --- configuration


def _load(path: str | None) -> Config:
    """Load the configuration, set up the log and hide the keys in it."""
    loaded = load_with_origins(path, os.environ)
    config = loaded.config
    set_up_logging(config.logging.level, os.environ)
    for warning in loaded.warnings:
        log.warning("configuration: %s", warning)
    hide_keys(secret for _, secret in iter_secrets(config))
    return config


def _load_quiet(options: Options) -> Config:
    """Load the configuration for an interactive command: it prints its progress, and the log only warnings."""
    config = _load(options.config)
    if config.logging.level == "info":
        set_level("warning")
    return config


def _load_for_client(options: Options) -> Config:
    """Load the configuration for a command that needs only the control socket; an invalid one is a warning."""
    try:
        return _load_quiet(options)
    except ConfigIssues as error:
        from agent.cli.control import usable_for_client, warn_of_issues

        warn_of_issues(error)
        return usable_for_client(error)


# --- commands; each imports its module when it runs, which keeps the daemon's start short


def _run(options: Options) -> int:
    return _run_daemon(options.config)


def _run_daemon(path: str | None) -> int:
    from agent.cli.run import run

    config = _load(path)
    return run(config, lambda: load_with_origins(path, os.environ).config)


def _say(options: Options) -> int:
    from agent.cli.say import say

    invalid: ConfigIssues | None = None
    try:
        config = _load_quiet(options)
    except ConfigIssues as error:
        if options.service is not None or options.output is not None:
            raise
        from agent.cli.control import usable_for_client

        config, invalid = usable_for_client(error), error
    return say(
        config,
        options.text,
        service=options.service,
        output=options.output,
        fallback=options.fallback,
        invalid=invalid,
    )


def _transcribe(options: Options) -> int:
    from agent.cli.transcribe import transcribe

    return transcribe(_load_quiet(options), options.source, as_json=options.json)


def _demo(options: Options) -> int:
    from agent.cli.demo import QUESTION, demo

    question = options.question or QUESTION
    return demo(
        _load_quiet(options), service=options.service, question=question, output=options.output, as_json=options.json
    )


def _status(options: Options) -> int:
    from agent.cli.control import status

    return status(_load_for_client(options), as_json=options.json, check=options.check)


def _hush(options: Options) -> int:
    from agent.cli.control import hush

    return hush(_load_for_client(options))


def _volume(options: Options) -> int:
    from agent.cli.control import volume

    return volume(_load_for_client(options), options.percent)


def _mute(options: Options) -> int:
    from agent.cli.control import mute

    return mute(_load_for_client(options), options.device, options.muted)


def _devices(options: Options) -> int:
    from agent.cli.sound import devices

    return devices(as_json=options.json)


def _meter(options: Options) -> int:
    from agent.cli.sound import meter

    return meter(_load(options.config), seconds=options.seconds, as_json=options.json)


def _voices(options: Options) -> int:
    from agent.cli.voices import voices

    return voices(as_json=options.json)


def _test_speaker(options: Options) -> int:
    from agent.cli.sound import test_speaker

    return test_speaker(_load(options.config))


def _test_microphone(options: Options) -> int:
    from agent.cli.sound import test_microphone

    return test_microphone(_load(options.config), as_json=options.json)


def _doctor(options: Options) -> int:
    from agent.cli.doctor.command import doctor

    return doctor(options.config, as_json=options.json, bundle=options.bundle, here=options.here)


def _config(options: Options) -> int:
    from agent.cli import config as command

    if options.what == "check":
        return command.check(options.config, as_json=options.json)
    if options.what == "show":
        return command.show(options.config, as_json=options.json)
    return command.schema()


if __name__ == "__main__":
    sys.exit(main())

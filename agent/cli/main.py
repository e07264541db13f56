"""The command line: what is asked for, and the exit code that says how it went."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent import __version__
from agent.config.secrets import hide_keys, iter_secrets
from agent.errors import AgentError, UsageError
from agent.settings.loader import load_with_origins
from agent.settings.model import Config
from agent.system import stdio as streams
from agent.system.log import set_level, set_up_logging
from agent.system.text import escape

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)

DAEMON = "the daemon, in the foreground"
SERVICES = ("local", "neuphonic", "playai", "vachana", "fish")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. 0 done; 2 usage; 69 a service could not be reached; 70 internal failure; 78 configuration."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    streams.open_closed()
    for stream in (sys.stdout, sys.stderr):
        # What a terminal of another encoding cannot show is a ? there, and no traceback.
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="replace")
    try:
        code = _dispatch(given)
        streams.flush()
        return code
    except AgentError as error:
        for line in str(error).splitlines():
            print(f"voice-agent: {escape(line)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever reads our output has had enough; nothing may be written to it at the exit either.
        streams.forget()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - not foreseen: said with its stack, and with the exit code of the contract
        if isinstance(error, OSError) and (reason := streams.full(error)):
            streams.forget()
            print(f"voice-agent: {reason}", file=sys.stderr)
            return UsageError.exit_code
        traceback.print_exc()
        return AgentError.exit_code


def _dispatch(given: list[str]) -> int:
    if given[:1] == ["server"]:
        return _server(given[1:])
    if given == ["run"] or given[:2] == ["run", "--config"] and len(given) == 3 and not given[2].startswith("-"):
        return _daemon(given[2] if len(given) == 3 else None)  # as services are started: without the parsers
    try:
        options = _daemon_parser().parse_args(given[1:]) if given[:1] == ["run"] else _parser().parse_args(given)
    except SystemExit:
        streams.flush()  # a help, or the version
        raise
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(prog="voice-agent", description="A voice daemon: it listens, asks, and speaks.")
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _command(commands, "run", _run, DAEMON)  # what it takes is said below

    say = _command(commands, "say", _say, "speak a text, or stdin as it comes")
    _with_config(say)
    say.add_argument("--service", choices=SERVICES, help="the speech service (default: as configured)")
    say.add_argument("--output", metavar="F.wav|-", help="write the sound there, as fast as it comes")
    say.add_argument("text", nargs="+", metavar="TEXT", help="what to say, or - for stdin")

    transcribe = _command(commands, "transcribe", _transcribe, "a file, stdin or the microphone as text")
    _with_config(transcribe)
    _with_json(transcribe)
    transcribe.add_argument("source", nargs="?", metavar="F.wav|-", help="a WAV file, or - for raw 16 kHz mono s16le")

    demo = _command(commands, "demo", _demo, "one whole turn on the local server, with a timeline")
    _with_config(demo)
    _with_json(demo)
    demo.add_argument("--service", choices=SERVICES, default="local", help="the wire protocol that is spoken")
    demo.add_argument("--question", metavar="TEXT", help="what is asked")
    demo.add_argument("--output", metavar="F.wav", help="write the reply there instead of playing it")

    status = _command(commands, "status", _status, "how the running daemon is")
    _with_config(status)
    _with_json(status)

    hush = _command(commands, "hush", _hush, "have the running daemon be silent")
    _with_config(hush)

    volume = _command(commands, "volume", _volume, "how loud the running daemon speaks, also after a restart")
    _with_config(volume)
    volume.add_argument("percent", nargs="?", type=_percent, metavar="PERCENT", help="0 to 100")

    abouts = {"mute": "silence the running daemon's speaker, or close its microphone", "unmute": "the opposite of mute"}
    for name, about in abouts.items():
        muting = _command(commands, name, _mute, about)
        _with_config(muting)
        muting.add_argument("device", choices=("speaker", "microphone"), metavar="speaker|microphone")
        muting.set_defaults(muted=name == "mute")

    commands.add_parser("server", help="the local speech server (server --help tells more)")

    devices = _command(commands, "devices", _devices, "the sound cards there are, and the line to write for each")
    _with_json(devices)

    meter = _command(commands, "meter", _meter, "how loud the microphone is, as a live bar")
    _with_config(meter)
    _with_json(meter)
    meter.add_argument("--seconds", type=float, metavar="N", help="for so long (default: until Ctrl-C)")

    _with_config(_command(commands, "test-speaker", _try_speaker, "three tones and a sentence"))

    microphone = _command(commands, "test-microphone", _try_microphone, "record 3 s, say what it was, play it back")
    _with_config(microphone)
    _with_json(microphone)

    doctor = _command(commands, "doctor", _doctor, "what is wrong, and how to mend it")
    _with_config(doctor)
    _with_json(doctor)
    doctor.add_argument("--bundle", metavar="F.tar.gz", help="write an archive for whoever helps, without the keys")
    doctor.add_argument("--here", action="store_true", help="as root: not as the service, but as root")

    config = _command(commands, "config", _config, "check, show, or describe the configuration")
    _with_config(config)
    _with_json(config)
    about = "name every mistake, with its line; what is in force, and by what; the JSON Schema of all keys"
    config.add_argument("what", choices=("check", "show", "schema"), metavar="check|show|schema", help=about)
    return parser


def _daemon_parser() -> argparse.ArgumentParser:
    """That of ``run`` alone: to make those of all the other commands would take a tenth of the daemon's start."""
    import argparse

    parser = argparse.ArgumentParser(prog="voice-agent run", description=f"{DAEMON[0].upper()}{DAEMON[1:]}.")
    _with_config(parser)
    parser.set_defaults(run=_run)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _with_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", help="configuration (default: /etc/voice-agent/config.yaml, if there)")


def _with_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer in JSON, for programs")


def _percent(word: str) -> int:
    import argparse

    if not (word.isascii() and word.isdecimal() and int(word) <= 100):
        raise argparse.ArgumentTypeError(f"a volume is a whole number from 0 to 100, not {word!r}")
    return int(word)


def _loaded(options: argparse.Namespace) -> Config:
    path: str | None = options.config
    return _configured(path)


def _configured(path: str | None) -> Config:
    loaded = load_with_origins(path, os.environ)
    config = loaded.config
    set_up_logging(config.logging.level, os.environ)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    hide_keys(secret for _, secret in iter_secrets(config))
    return config


def _load_quiet(options: argparse.Namespace) -> Config:
    """For a command that a person waits for: it says itself what it does, and the log only what is wrong."""
    config = _loaded(options)
    if config.logging.level == "info":
        set_level("warning")
    return config


# Each command is imported only when it is asked for: a kiosk's daemon has no use for a demonstration.


def _run(options: argparse.Namespace) -> int:
    return _daemon(options.config)


def _daemon(path: str | None) -> int:
    from agent.cli.run import run

    config = _configured(path)
    return run(config, lambda: load_with_origins(path, os.environ).config)


def _say(options: argparse.Namespace) -> int:
    from agent.cli.say import say

    return say(_load_quiet(options), options.text, service=options.service, output=options.output)


def _transcribe(options: argparse.Namespace) -> int:
    from agent.cli.transcribe import transcribe

    return transcribe(_load_quiet(options), options.source, as_json=options.json)


def _demo(options: argparse.Namespace) -> int:
    from agent.cli.demo import QUESTION, demo

    question = options.question or QUESTION
    return demo(
        _load_quiet(options), service=options.service, question=question, output=options.output, as_json=options.json
    )


def _status(options: argparse.Namespace) -> int:
    from agent.cli.control import status

    return status(_load_quiet(options), as_json=options.json)


def _hush(options: argparse.Namespace) -> int:
    from agent.cli.control import hush

    return hush(_load_quiet(options))


def _volume(options: argparse.Namespace) -> int:
    from agent.cli.control import volume

    return volume(_load_quiet(options), options.percent)


def _mute(options: argparse.Namespace) -> int:
    from agent.cli.control import mute

    return mute(_loaded(options), options.device, options.muted)


def _server(arguments: list[str]) -> int:
    from agent.server.main import main as serve

    return serve(arguments)


def _devices(options: argparse.Namespace) -> int:
    from agent.cli.sound import devices

    return devices(as_json=options.json)


def _meter(options: argparse.Namespace) -> int:
    from agent.cli.sound import meter

    return meter(_loaded(options), seconds=options.seconds, as_json=options.json)


def _try_speaker(options: argparse.Namespace) -> int:
    from agent.cli.sound import try_speaker

    return try_speaker(_loaded(options))


def _try_microphone(options: argparse.Namespace) -> int:
    from agent.cli.sound import try_microphone

    return try_microphone(_loaded(options), as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from agent.cli.doctor.command import doctor

    return doctor(options.config, as_json=options.json, bundle=options.bundle, here=options.here)


def _config(options: argparse.Namespace) -> int:
    from agent.cli import config as command

    if options.what == "check":
        return command.check(options.config, as_json=options.json)
    if options.what == "show":
        return command.show(options.config, as_json=options.json)
    return command.schema()


if __name__ == "__main__":
    sys.exit(main())

"""The command line: parses the arguments, runs one command and returns its exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.errors import AgentError, ConfigError, UsageError
from agent.system import stdio
from agent.system.limits import require_descriptors
from agent.system.text import escape

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace

    from agent.config.tree_cache import TreeCache
    from agent.settings.model import Config

    Options = argparse.Namespace | SimpleNamespace

# Only what every command needs is imported here: a command that sends a request to the daemon has to start fast.

_LIGHT_COMMANDS = frozenset(
    {
        "status",
        "hush",
        "cancel",
        "listen",
        "history",
        "events",
        "timers",
        "top",
        "volume",
        "mute",
        "unmute",
        "config",
        "--help",
        "-h",
        "--version",
    }
)
"""Commands that run without ``require_descriptors``: beside the standard streams they need only a few descriptors."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; ``None`` for those of this process.

    Returns:
        0 done; 2 usage; 3 cancelled ``say``; 69 a service could not be reached; 70 internal failure; 75 restart
        requested (``run``); 78 configuration, missing key or missing sound card; 128 plus the number of a signal
        that ended the command, for example 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    stdio.open_missing_streams()
    stdio.make_stderr_optional()
    for stream in (sys.stdout, sys.stderr):
        # Write "?" for a character that the encoding of the stream lacks. Otherwise print() raises an error.
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
    except Exception as error:  # noqa: BLE001 - an internal failure: print the stack, return the documented exit code
        if isinstance(error, OSError) and (reason := stdio.describe_write_error(error)):
            stdio.discard_stdout()
            print(f"voice-agent: {reason}", file=sys.stderr)
            return UsageError.exit_code
        import traceback

        from agent.system.limits import describe_no_descriptor

        if reason := describe_no_descriptor(error):
            print(f"voice-agent: {reason}", file=sys.stderr)
            return ConfigError.exit_code
        traceback.print_exc()
        return AgentError.exit_code


def _dispatch(words: list[str]) -> int:
    if words and words[0] not in _LIGHT_COMMANDS:
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
        return _run_daemon(words[2] if len(words) == 3 else None)  # as in the systemd units; without argparse
    from agent.cli.usual_options import parse_usual

    if (usual := parse_usual(words)) is not None:
        return _RUN[usual.command](usual)
    from agent.cli.parsers import parse

    try:
        options = parse(words)
    except SystemExit:
        stdio.flush_stdout()  # the output of --help and --version
        raise
    return _RUN[options.command](options)


# --- configuration


def _load(path: str | None, cache: TreeCache | None = None) -> Config:
    """Load the configuration, set up logging, and mask the keys in the log."""
    import logging

    from agent.config.secrets import hide_keys
    from agent.settings.loader import load_with_origins
    from agent.settings.model import all_secrets
    from agent.system.log import set_up_logging

    loaded = load_with_origins(path, os.environ, cache)
    config = loaded.config
    set_up_logging(config.logging.level, os.environ)
    for warning in loaded.warnings:
        logging.getLogger(__name__).warning("configuration: %s", warning)
    hide_keys(all_secrets(config))
    return config


def _load_quiet(options: Options) -> Config:
    """Load the configuration for a command that prints its progress: the log level ``info`` becomes ``warning``."""
    from agent.system.log import set_level

    config = _load(options.config)
    if config.logging.level == "info":
        set_level("warning")
    return config


# --- commands; each function imports its module when it runs, so that the daemon starts fast


def _run(options: Options) -> int:
    return _run_daemon(options.config)


def _run_daemon(path: str | None) -> int:
    from agent.cli.run import run
    from agent.config.tree_cache import TreeCache
    from agent.settings.loader import load_with_origins
    from agent.system.paths import Paths

    config = _load(path, TreeCache(Paths.from_environment(os.environ).cache))
    return run(config, lambda: load_with_origins(path, os.environ).config, path)


def _say(options: Options) -> int:
    if options.cancel or options.stop:
        from agent.cli import control

        control.hush(options.config) if options.cancel else control.stop(options.config)
        if not options.text:
            return 0
    if options.service is None and options.output is None:
        from agent.cli.handover import say as hand_over

        if (code := hand_over(options)) is not None:
            return code
    from agent.cli.delivery_options import delivery_options
    from agent.cli.say import say

    if ignored := delivery_options(options):
        from agent.cli.notice import notice

        names = ", ".join(f"--{'ttl' if name == 'ttl_seconds' else name}" for name in ignored)
        notice(f"{names}: no effect, because this text is not spoken by a running daemon")
    return say(
        _load_quiet(options), options.text, service=options.service, output=options.output, fallback=options.fallback
    )


def _transcribe(options: Options) -> int:
    from agent.cli.transcribe import transcribe

    return transcribe(_load_quiet(options), options.source, as_json=options.json)


def _demo(options: Options) -> int:
    from agent.cli.demo import QUESTION, demo

    question = QUESTION if options.question is None else options.question
    return demo(
        _load_quiet(options), service=options.service, question=question, output=options.output, as_json=options.json
    )


def _status(options: Options) -> int:
    from agent.cli.control import status

    return status(options.config, as_json=options.json, check=options.check)


def _hush(options: Options) -> int:
    from agent.cli.control import hush

    return hush(options.config)


def _cancel(options: Options) -> int:
    from agent.cli.control import cancel

    return cancel(options.config, options.utterance)


def _listen(options: Options) -> int:
    from agent.cli.control import listen

    return listen(options.config)


def _history(options: Options) -> int:
    from agent.cli.history import history

    return history(options.config, options.limit, as_json=options.json)


def _timers(options: Options) -> int:
    from agent.cli import timers

    if options.what != "set" and options.name is not None:
        raise UsageError(f"timers {options.what} takes no --name")
    if options.what == "list":
        if options.word is not None:
            raise UsageError("timers list takes no further word")
        return timers.show(options.config, as_json=options.json)
    if options.word is None:
        needed = "length such as 5m" if options.what == "set" else "name or number"
        raise UsageError(f"timers {options.what} needs a {needed}")
    if options.what == "cancel":
        return timers.cancel(options.config, options.word, as_json=options.json)
    return timers.start(options.config, options.word, options.name or "", as_json=options.json)


def _top(options: Options) -> int:
    from agent.cli.top import top

    return top(options.config, once=options.once)


def _events(options: Options) -> int:
    from agent.cli.events import events

    return events(options.config, options.names, as_json=options.json, texts=options.texts)


def _volume(options: Options) -> int:
    from agent.cli.control import volume

    return volume(options.config, options.percent)


def _mute(options: Options) -> int:
    from agent.cli.control import mute

    return mute(options.config, options.device, options.command == "mute")


def _devices(options: Options) -> int:
    from agent.cli.sound import devices

    return devices(as_json=options.json)


def _meter(options: Options) -> int:
    from agent.cli.sound import meter

    return meter(_load(options.config), seconds=options.seconds, as_json=options.json)


def _voices(options: Options) -> int:
    from agent.cli.voices import voices

    return voices(as_json=options.json)


def _fleet(options: Options) -> int:
    from agent.cli import fleet

    config = _load_quiet(options)
    if options.what == "status":
        if options.text is not None:
            raise UsageError("fleet status takes no text")
        return fleet.status(config, as_json=options.json)
    if options.text is None:
        raise UsageError("fleet say needs a TEXT")
    delivery = {"priority": options.priority, "ttl": options.ttl}
    return fleet.say(
        config,
        options.text,
        group=options.group,
        device=options.device,
        options={name: value for name, value in delivery.items() if value is not None},
        timeout_seconds=options.timeout,
        as_json=options.json,
    )


def _phrases(options: Options) -> int:
    from agent.cli.phrases import phrases

    config = _load_quiet(options)
    return phrases(config, options.what, options.words, service=options.service, as_json=options.json)


def _test_speaker(options: Options) -> int:
    from agent.cli.sound import test_speaker

    return test_speaker(_load(options.config))


def _test_microphone(options: Options) -> int:
    from agent.cli.sound import test_microphone

    return test_microphone(_load(options.config), as_json=options.json)


def _test_wake(options: Options) -> int:
    from agent.cli.test_wake import test_wake

    return test_wake(_load(options.config), seconds=options.seconds, as_json=options.json)


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


_RUN: dict[str, Callable[[Options], int]] = {
    "run": _run,
    "say": _say,
    "transcribe": _transcribe,
    "demo": _demo,
    "status": _status,
    "hush": _hush,
    "cancel": _cancel,
    "listen": _listen,
    "history": _history,
    "events": _events,
    "timers": _timers,
    "top": _top,
    "volume": _volume,
    "mute": _mute,
    "unmute": _mute,
    "devices": _devices,
    "meter": _meter,
    "phrases": _phrases,
    "fleet": _fleet,
    "voices": _voices,
    "test-speaker": _test_speaker,
    "test-microphone": _test_microphone,
    "test-wake": _test_wake,
    "doctor": _doctor,
    "config": _config,
}


if __name__ == "__main__":
    sys.exit(main())

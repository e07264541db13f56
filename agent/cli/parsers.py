"""The parsers of the commands: one for each command, and one that lists all of them for the help.

Creating the parser of one command takes a tenth of the time of creating all of them. A command that only sends a
request to the running daemon has to start fast.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from agent import __version__
from agent.services.registry import SERVICES

MAX_PERCENT = 100
MAX_RANK = 100
MAX_HISTORY = 1000
MAX_SECONDS = 7 * 86400
CHIMES = ("none", "ding", "ding-dong", "gong", "alert")
PRIORITIES = ("important", "message", "notification")


def parse(words: list[str]) -> argparse.Namespace:
    """Parse the words of a command line.

    Returns:
        The options; ``command`` is the name of the command.

    Raises:
        SystemExit: A usage error (code 2), or a request for the help or the version (code 0).
    """
    if words and words[0] in _COMMANDS and words[0] != "server":
        parser = _command_parser(words[0])
        # Only parse_intermixed_args accepts an option between two positional arguments if one of them is optional.
        read = parser.parse_intermixed_args if words[0] in ("fleet", "phrases", "timers") else parser.parse_args
        options = read(words[1:])
        if words[0] == "say" and not (options.text or options.cancel or options.stop):
            parser.error("the following arguments are required: TEXT")
        return options
    build_parser().parse_args(words)  # prints the help, the version or a usage error
    raise AssertionError(words)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. ``server`` has its own parser."""
    parser = argparse.ArgumentParser(
        prog="voice-agent", description="Listen to speech, request a reply and speak it, as a daemon or by command."
    )
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for name, (help, add_arguments) in _COMMANDS.items():
        command = commands.add_parser(name, help=help, description=_sentence(help), add_help=name != "server")
        add_arguments(command)
    return parser


class _HelpFormatter(argparse.HelpFormatter):
    """A formatter that finds the width of the terminal without ``shutil``. Not thread-safe.

    argparse creates a formatter for each argument. The default formatter imports ``shutil`` and, with it, three
    compression libraries. These imports take a fifth of the time until a command has sent its request.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_columns() - 2)


def _terminal_columns() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size().columns or 80
    except (OSError, ValueError):
        return 80


def _command_parser(name: str) -> argparse.ArgumentParser:
    help, add_arguments = _COMMANDS[name]
    parser = argparse.ArgumentParser(
        prog=f"voice-agent {name}", description=_sentence(help), formatter_class=_HelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(command=name)
    return parser


# --- arguments


def _config_only(parser: argparse.ArgumentParser) -> None:
    help = "read this configuration (default: /etc/voice-agent/config.yaml, if it exists)"
    parser.add_argument("-c", "--config", metavar="FILE", help=help)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-j", "--json", action="store_true", help="print JSON")


def _config_and_json(parser: argparse.ArgumentParser) -> None:
    _config_only(parser)
    _json(parser)


def _none(parser: argparse.ArgumentParser) -> None:
    pass


def _say(parser: argparse.ArgumentParser) -> None:
    # usual_options.py repeats the default of each option.
    _config_only(parser)
    parser.add_argument(
        "-s", "--service", choices=tuple(SERVICES), help="use this speech service (default: as configured)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write a file (.wav, .mp3 or .opus), or WAV to stdout (-), instead of playing",
    )
    parser.add_argument("--fallback", metavar="FILE", help="write to this file if there is no sound card")
    help = "set important (interrupts), message, notification (dropped if busy), or a rank from -100 to 100"
    parser.add_argument("-P", "--priority", type=_priority, metavar="PRIORITY", help=help)
    parser.add_argument("--urgent", action="store_true", help="set --priority important")
    help = "omit the text if it is not audible within this time"
    parser.add_argument("--ttl", type=_seconds, metavar="SECONDS", help=help)
    parser.add_argument("--id", metavar="ID", help="set the id, for cancel and history")
    parser.add_argument("--chime", choices=CHIMES, help="play this sound before the text")
    parser.add_argument(
        "--volume",
        type=_percent,
        metavar="PERCENT",
        help="set the volume of this text, from 0 to 100",
    )
    parser.add_argument("--voice", metavar="VOICE", help="use this voice of the speech service")
    help = "wait until the text is spoken (default)"
    parser.add_argument("-w", "--wait", action="store_true", default=True, help=help)
    help = "end as soon as the running daemon has accepted the text"
    parser.add_argument("--no-wait", action="store_false", dest="wait", help=help)
    parser.add_argument("-C", "--cancel", action="store_true", help="cancel all texts of the running daemon first")
    parser.add_argument("-S", "--stop", action="store_true", help="cancel the current text of the running daemon first")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="speak these words, or stdin (-)")


def _transcribe(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    help = "read a WAV file, or raw 16 kHz mono s16le from stdin (-); default: the microphone"
    parser.add_argument("source", nargs="?", metavar="FILE", help=help)


def _demo(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument(
        "-s", "--service", choices=tuple(SERVICES), default="local", help="use the wire protocol of this service"
    )
    parser.add_argument("--question", metavar="TEXT", help="ask this question")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the reply to a WAV file instead of playing it")


def _status(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="print only the reasons why it cannot speak or listen, and end with 69 then",
    )


def _cancel(parser: argparse.ArgumentParser) -> None:
    _config_only(parser)
    parser.add_argument("utterance", metavar="ID", help="cancel the utterance with this id")


def _history(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    help = f"print at most this number of utterances (default: {MAX_HISTORY})"
    parser.add_argument("-n", "--limit", type=_count, default=MAX_HISTORY, metavar="NUMBER", help=help)


def _events(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument("--texts", action="store_true", help="print transcripts and the texts of utterances too")
    names = "state, partial, wake, near_miss, button, timer, heard, reply, utterance, device, service, underrun"
    parser.add_argument("names", nargs="*", metavar="EVENT", help=f"print only these events: {names}")


def _top(parser: argparse.ArgumentParser) -> None:
    _config_only(parser)
    parser.add_argument("--once", action="store_true", help="print one screen as plain text and end")


def _volume(parser: argparse.ArgumentParser) -> None:
    _config_only(parser)
    parser.add_argument("percent", nargs="?", type=_percent, metavar="PERCENT", help="set the volume, from 0 to 100")


def _mute(name: str) -> Callable[[argparse.ArgumentParser], None]:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        _config_only(parser)
        parser.add_argument("device", choices=("speaker", "microphone"), help=f"{name} this device")

    return add_arguments


def _meter(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument("--seconds", type=_seconds, metavar="SECONDS", help="stop after this time (default: at Ctrl-C)")


def _doctor(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument("--bundle", metavar="FILE", help="write a support archive (.tar.gz), with the keys masked")
    parser.add_argument("--here", action="store_true", help="check as root instead of as the service (only with sudo)")


def _config(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    help = (
        "check: report every error; show: print all values with their origin; schema: print the JSON Schema of all keys"
    )
    parser.add_argument("what", choices=("check", "show", "schema"), help=help)


def _phrases(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument(
        "-s", "--service", choices=tuple(SERVICES), help="use this speech service for warm (default: the first one)"
    )
    help = (
        "warm: speak the texts of a file silently, so that they are kept; list: show all; remove: delete some; "
        "clear: delete all; verify: read all and delete damaged ones"
    )
    parser.add_argument("what", choices=("warm", "list", "remove", "clear", "verify"), help=help)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORDS",
        help="read the texts to warm from this file (-: stdin), or remove these texts",
    )


def _fleet(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--group", metavar="GROUP", help="speak only on the devices of this group")
    target.add_argument("--device", metavar="NAME", help="speak only on this device")
    parser.add_argument("-P", "--priority", type=_priority, metavar="PRIORITY", help="set the priority, as for say")
    parser.add_argument(
        "--ttl", type=_seconds, metavar="SECONDS", help="set the longest time until the text is audible"
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", default=120.0, help="wait for the ends (default: 120)"
    )
    help = "show all devices at the broker (status), or let all of them or some speak a text (say)"
    parser.add_argument("what", choices=("status", "say"), help=help)
    parser.add_argument("text", nargs="?", metavar="TEXT", help="speak this text")


def _timers(parser: argparse.ArgumentParser) -> None:
    _config_and_json(parser)
    parser.add_argument("--name", metavar="NAME", help="set the name that is spoken when the timer ends (set)")
    help = "list: show all timers and alarms (default); set: start a timer; cancel: cancel a timer or an alarm"
    parser.add_argument("what", nargs="?", choices=("list", "set", "cancel"), default="list", help=help)
    parser.add_argument(
        "word",
        nargs="?",
        metavar="WORD",
        help="set a timer of this length, as 90s, 5m or 1h30m, or cancel the one with this name or number",
    )


def _percent(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and int(word) <= MAX_PERCENT):
        raise argparse.ArgumentTypeError(f"the volume has to be a whole number from 0 to {MAX_PERCENT}, not {word!r}")
    return int(word)


def _count(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and 1 <= int(word) <= MAX_HISTORY):
        raise argparse.ArgumentTypeError(f"the number has to be from 1 to {MAX_HISTORY}, not {word!r}")
    return int(word)


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= MAX_SECONDS:  # also false for NaN
        return seconds
    raise argparse.ArgumentTypeError(f"has to be a number of seconds from 0 to {MAX_SECONDS}, not {word!r}")


def _priority(word: str) -> str | int:
    if word in PRIORITIES:
        return word
    digits = word.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and int(digits) <= MAX_RANK:
        return int(word)
    names = ", ".join(PRIORITIES)
    raise argparse.ArgumentTypeError(
        f"the priority has to be {names} or a whole number from -{MAX_RANK} to {MAX_RANK}, not {word!r}"
    )


def _sentence(help: str) -> str:
    return f"{help[0].upper()}{help[1:]}."


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": ("run the daemon in the foreground", _config_only),
    "say": ("speak a text, or stdin while it arrives", _say),
    "transcribe": ("transcribe a file, stdin or the microphone", _transcribe),
    "demo": ("show one whole turn on the local server, with a timeline", _demo),
    "status": ("show the status of the running daemon", _status),
    "hush": ("stop the running daemon's speech and clear its queue", _config_only),
    "cancel": ("cancel one utterance of the running daemon", _cancel),
    "listen": ("start a turn of the user, as if the user had begun to speak", _config_only),
    "history": ("print the last utterances of the running daemon, the newest last", _history),
    "events": ("print the events of the running daemon as they occur", _events),
    "timers": ("list, set and cancel the timers of the running daemon", _timers),
    "top": ("show the running daemon live in the terminal", _top),
    "volume": ("show or set the playback volume (persists across restarts)", _volume),
    "mute": ("mute the running daemon's speaker or microphone", _mute("mute")),
    "unmute": ("unmute the running daemon's speaker or microphone", _mute("unmute")),
    "server": ("run the local speech server (server --help lists its options)", _none),
    "devices": ("list sound cards and the matching device: setting", _json),
    "meter": ("show the microphone level as a live bar", _meter),
    "phrases": ("prepare, list, remove and check speech that is kept on disk", _phrases),
    "fleet": ("show the devices at an MQTT broker, and let them speak a text", _fleet),
    "voices": ("list the voices of the local speech engines", _json),
    "test-speaker": ("play three tones and a sentence", _config_only),
    "test-microphone": ("record 3 seconds, judge the recording and play it back", _config_and_json),
    "test-wake": ("show the scores of the wake words while you speak", _meter),
    "doctor": ("check everything and show how to fix each error", _doctor),
    "config": ("check, show or describe the configuration", _config),
}

"""Options of the local server and the command line that sets them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.server.encoders.encoder import WAV_LAYOUTS
from agent.server.stt.registry import CHOICES as STT_CHOICES
from agent.server.tts.registry import ENGINES as TTS_ENGINES
from agent.services.protocols import transcription
from agent.services.protocols.codec import ServerOption
from agent.services.registry import served

LOG_LEVELS = ("debug", "info", "warning", "error")

_MAX_KEY_BYTES = 65536


@dataclass(frozen=True)
class ServerOptions:
    """Options of one server. Immutable.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 selects a free one.
        wyoming: Port for Wyoming clients; 0 selects a free one, ``None`` disables this listener.
        speech: Name of the speech engine.
        recognition: Name of the recognition engine.
        script: File for the script engine.
        model_path: Directory of a vosk model.
        keys: Service name to the key that its clients must send; a service without a key accepts every client.
        service_options: Flag to value, for the options that belong to a single service.
        pace: Factor of real time at which audio is sent; ``None`` sends it as fast as it is produced.
        wav_layout: Position of the RIFF headers, one of ``WAV_LAYOUTS``, for services that do not define it.
        allow_origins: Origins of the web pages that may read the responses of PlayAI's authorization.
        clients: Maximum number of sessions of each listener.
        finish_seconds: Time for the sessions to finish during shutdown.
        wire_log: File for the wire log.
        log: File for the log; ``None`` is stderr.
        log_level: One of ``LOG_LEVELS``.
        with_parent: Stop at the end of standard input, a pipe that the parent process holds open.
    """

    host: str = "127.0.0.1"
    port: int = 8394
    wyoming: int | None = None
    speech: str = "auto"
    recognition: str = "auto"
    script: str | None = None
    model_path: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    service_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    pace: float | None = None
    wav_layout: str = "header"
    allow_origins: Sequence[str] = ()
    clients: int = 32
    finish_seconds: float = 2.5
    wire_log: str | None = None
    log: str | None = None
    log_level: str = "info"
    with_parent: bool = False


def parse(argv: Sequence[str]) -> ServerOptions:
    """Parse the command line; exit with status 2 and a message if it is invalid."""
    parser = build_parser()
    parsed = parser.parse_args(argv)
    shared_key = parsed.api_key
    if parsed.api_key_file is not None:
        try:
            shared_key = _read_key(Path(parsed.api_key_file))
        except (OSError, ValueError) as error:
            parser.error(f"argument --api-key-file: {parsed.api_key_file} cannot be used: {_reason(error)}")
    keys = {name: getattr(parsed, f"api_key_{name}") or shared_key for name in _names()}
    return ServerOptions(
        keys={name: key for name, key in keys.items() if key},
        service_options={option.flag: getattr(parsed, _attribute(option.flag)) for option in _service_options()},
        **{name: getattr(parsed, name) for name in ServerOptions.__dataclass_fields__ if hasattr(parsed, name)},
    )


def _names() -> list[str]:
    return [*(service.name for service in served()), transcription.NAME]


def _service_options() -> list[ServerOption]:
    return [option for service in served() for option in service.server_options]


def _attribute(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``voice-agent server``."""
    defaults = ServerOptions()
    titles = ", ".join(service.title for service in served())
    parser = argparse.ArgumentParser(
        prog="voice-agent server",
        description=f"Run the local speech server: real engines behind the protocols of {titles} and transcription, "
        "on one port.",
    )
    add = parser.add_argument
    add("--host", default=defaults.host, help="listen on this address (%(default)s)")
    add("--port", type=_port, default=defaults.port, help="listen on this port; 0 selects a free one (%(default)s)")
    add("--wyoming", type=_port, metavar="PORT",
        help="listen for Wyoming clients on PORT; 0 selects a free one (default: none)")  # fmt: skip
    add("--speech", choices=tuple(TTS_ENGINES), default=defaults.speech, help="speak with this engine (%(default)s)")
    add("--recognition", choices=STT_CHOICES, default=defaults.recognition,
        help="recognize speech with this engine (%(default)s)")  # fmt: skip
    add("--script", metavar="FILE", help="read the transcripts of the script engine from FILE")
    add("--model-path", metavar="DIR", help="load the vosk model in DIR")
    add("--api-key", metavar="KEY", help="require KEY from the clients of all services; without it every client is "
        "accepted. All users of this machine can read a command line: use --api-key-file for a real key")  # fmt: skip
    add("--api-key-file", metavar="FILE", help="read the key for all services from FILE, which contains only the key")
    for name in _names():
        add(f"--api-key-{name}", metavar="KEY", help=f"require KEY from clients of {name}")
    for option in _service_options():
        if option.metavar is not None:
            add(option.flag, metavar=option.metavar, help=option.help)
        else:
            add(option.flag, action="store_true", help=option.help)
    add("--pace", type=_positive, metavar="FACTOR",
        help="send audio at FACTOR times real time; default: as fast as it is produced")  # fmt: skip
    add("--wav-layout", choices=WAV_LAYOUTS, default=defaults.wav_layout, help="place RIFF headers here (%(default)s)")
    add(
        "--clients",
        metavar="COUNT",
        type=_count,
        default=defaults.clients,
        help="accept COUNT clients at the same time (%(default)s)",
    )
    add("--allow-origin", dest="allow_origins", metavar="ORIGIN", action="append", type=str.lower, default=[],
        help="allow web pages of ORIGIN, for example https://kiosk.example, to use PlayAI's authorization; * is every "
        "page, and the option may be repeated")  # fmt: skip
    add("--finish-seconds", metavar="SECONDS", type=_positive, default=defaults.finish_seconds,
        help="allow running sessions SECONDS to finish at shutdown (%(default)s)")  # fmt: skip
    add("--wire-log", metavar="FILE", help="write every message to FILE, one JSON object per line, without audio or "
        "keys")  # fmt: skip
    add("--log", metavar="FILE", help="write the log to FILE instead of stderr")
    add(
        "--log-level",
        choices=LOG_LEVELS,
        default=defaults.log_level,
        help="log from this level up (%(default)s)",
    )
    add("--with-parent", action="store_true", help="stop when standard input ends")
    return parser


def _read_key(path: Path) -> str:
    with path.open("rb") as file:
        key = file.read(_MAX_KEY_BYTES).decode("ascii").strip()
    if not key or not key.isprintable():
        raise ValueError("expected one line with the key only")
    return key


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a key is ASCII"  # str(error) would quote bytes of the file, which may be a key
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 1000, not {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.001 <= number <= 100000.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return number

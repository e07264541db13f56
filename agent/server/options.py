"""How the server is told what to do: its settings, and the command line they come from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.server.encoders.encoder import WAV_LAYOUTS
from agent.server.stt.registry import CHOICES as STT_CHOICES
from agent.server.tts.registry import ENGINES as TTS_ENGINES

LOG_LEVELS = ("debug", "info", "warning", "error")

_KEY_BYTES = 65536


@dataclass(frozen=True)
class Keys:
    """Whom each service lets in; ``None`` is anybody. They never show."""

    neuphonic: str | None = field(default=None, repr=False)
    playai: str | None = field(default=None, repr=False)
    playai_user: str | None = field(default=None, repr=False)
    vachana: str | None = field(default=None, repr=False)
    fish: str | None = field(default=None, repr=False)
    transcription: str | None = field(default=None, repr=False)

    def all(self) -> tuple[str, ...]:
        """Every key there is: what may never be written into a log."""
        named = (self.neuphonic, self.playai, self.vachana, self.fish, self.transcription)
        return tuple(key for key in named if key)


@dataclass(frozen=True)
class Options:
    """The settings of one server. ``pace``: sound is sent at so many times real time, ``None`` as fast as it is made.
    ``finish_seconds``: how long it may go on speaking once it is told to end. ``clients``: how many at once."""

    host: str = "127.0.0.1"
    port: int = 8394
    speech: str = "auto"
    recognition: str = "auto"
    script: str | None = None
    model_path: str | None = None
    keys: Keys = Keys()
    pace: float | None = None
    vachana_binary: bool = False
    wav_layout: str = "header"
    stop_flags: bool = True
    clients: int = 32
    finish_seconds: float = 2.5
    wire_log: str | None = None
    log: str | None = None
    log_level: str = "info"
    with_parent: bool = False


def parse(argv: Sequence[str]) -> Options:
    """The options on the command line; leaves with status 2 and a sentence where they are not right."""
    parser = _parser()
    known = parser.parse_args(argv)
    general = known.api_key
    if known.api_key_file is not None:
        try:
            general = _read_key(Path(known.api_key_file))
        except (OSError, ValueError) as error:
            parser.error(f"argument --api-key-file: {known.api_key_file} cannot be used: {_reason(error)}")
    keys = Keys(
        neuphonic=known.api_key_neuphonic or general,
        playai=known.api_key_playai or general,
        playai_user=known.user_id_playai,
        vachana=known.api_key_vachana or general,
        fish=known.api_key_fish or general,
        transcription=known.api_key_transcription or general,
    )
    names = [name for name in Options.__dataclass_fields__ if name not in ("keys", "stop_flags")]
    return Options(keys=keys, stop_flags=not known.no_stop_flags, **{name: getattr(known, name) for name in names})


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="voice-agent server",
        description="The local speech server: real engines behind the protocols of Neuphonic, PlayAI, Vachana, Fish "
        "Audio and the transcription service, on one port.",
    )
    add = parser.add_argument
    add("--host", default=defaults.host, help="address it listens on (%(default)s)")
    add("--port", type=_port, default=defaults.port, help="port it listens on; 0: any free one (%(default)s)")
    add("--speech", choices=tuple(TTS_ENGINES), default=defaults.speech, help="engine that speaks (%(default)s)")
    add("--recognition", choices=STT_CHOICES, default=defaults.recognition, help="engine that recognises (%(default)s)")
    add("--script", metavar="FILE", help="transcript that the script engine gives")
    add("--model-path", metavar="DIR", help="directory of a vosk model")
    add("--api-key", metavar="KEY", help="key that all services want; without one, anybody is let in. Everybody on "
        "this machine can read a command line: a real key belongs into a file")  # fmt: skip
    add("--api-key-file", metavar="FILE", help="file with the key that all services want, and nothing else")
    for service in ("neuphonic", "playai", "vachana", "fish", "transcription"):
        add(f"--api-key-{service}", metavar="KEY", help=f"key that {service} wants")
    add("--user-id-playai", metavar="ID", help="user id that playai wants")
    add("--pace", type=_positive, metavar="FACTOR", help="send sound at FACTOR times real time; default: as it is made")
    add("--vachana-binary", action="store_true", help="vachana sends bare binary chunks, as its first page says")
    add("--wav-layout", choices=WAV_LAYOUTS, default=defaults.wav_layout, help="where RIFF headers are (%(default)s)")
    add("--no-stop-flags", action="store_true", help="neuphonic sends no data.stop, as in 2024")
    add("--clients", metavar="N", type=_count, default=defaults.clients, help="how many clients at once (%(default)s)")
    add("--finish-seconds", type=_positive, default=defaults.finish_seconds,
        help="how long it may go on speaking once it is told to end (%(default)s)")  # fmt: skip
    add("--wire-log", metavar="FILE", help="write every message, one JSON object a line, into FILE; no sound, no keys")
    add("--log", metavar="FILE", help="write the log into FILE instead of stderr")
    add("--log-level", choices=LOG_LEVELS, default=defaults.log_level, help="what is worth a line (%(default)s)")
    add("--with-parent", action="store_true", help="end as well when standard input ends")
    return parser


def _read_key(path: Path) -> str:
    with path.open("rb") as file:
        key = file.read(_KEY_BYTES).decode("ascii").strip()
    if not key or not key.isprintable():
        raise ValueError("one line with the key alone is wanted")
    return key


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a key is ASCII"  # the error itself quotes what it read
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"a number from 1 to 1000 is wanted, not {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.001 <= number <= 100000.0:
        raise argparse.ArgumentTypeError(f"a number above 0 is wanted, not {text!r}")
    return number

"""Fish Audio, both halves: MessagePack maps in binary messages, from ``start`` to ``finish``.

Source: Fish Audio's WebSocket document, and what its own packages were seen to send. The only doorway to msgpack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack

from agent.config.errors import Finding
from agent.config.fields import key
from agent.config.rules import header_problem, input_file_problem
from agent.config.secrets import Secret
from agent.errors import ConfigError
from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Handshake,
    KeepaliveTiming,
    Log,
    Message,
    ServerSide,
    Text,
    TtsService,
)
from agent.services.protocols.handshake import header, keys_match, parse_target
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, redact

RATES = {
    "wav": (8000, 16000, 24000, 32000, 44100),
    "pcm": (8000, 16000, 24000, 32000, 44100),
    "mp3": (32000, 44100),
    "opus": (48000,),
}
"""The sample rates of each format in Hz. The service's own choice is the highest; it refuses all others."""

LATENCIES = ("normal", "balanced", "low")

_CONTAINERS = {"wav": "wav", "pcm": "raw", "mp3": "mp3", "opus": "opus"}
_NUMBERS = {"temperature": (0.0, 1.0), "top_p": (0.0, 1.0)}
_PROSODY = {"speed": (0.5, 2.0), "volume": (-20.0, 20.0)}
_REFERENCES_MAX = 32


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording (the bytes of a sound file) of the voice that is to be imitated, and what is said in it."""

    audio: bytes = field(repr=False)
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a ``start`` asks for, with the service's own choices where it is silent. ``volume`` in dB."""

    text: str
    encoding: Encoding
    format: str
    latency: str
    temperature: float
    top_p: float
    speed: float
    volume: float
    reference_id: str | None
    references: tuple[Reference, ...]


def encoding_of(name: str, sample_rate: int | None) -> Encoding:
    """How the sound comes; ``name`` is one of ``RATES``, the rate in Hz or ``None`` for the service's own choice."""
    return Encoding(_CONTAINERS[name], sample_rate or RATES[name][-1])


def find_error(request: Mapping[str, object]) -> str | None:
    """What the service would refuse in ``request``, in words that fit after "expected"; ``None`` where it is right.

    Fields that are not known are let through, and so are fields that are null: clients send many of both.
    """
    if not isinstance(_value(request, "text", ""), str):
        return "text in the field text"
    name = _value(request, "format", "mp3")
    if not isinstance(name, str) or name not in RATES:
        return f"a format out of {', '.join(RATES)}"
    rate = _value(request, "sample_rate", RATES[name][-1])
    if not isinstance(rate, int) or rate not in RATES[name]:
        return f"a sample_rate for {name} out of {', '.join(map(str, RATES[name]))}"
    if _value(request, "latency", "normal") not in LATENCIES:
        return f"a latency out of {', '.join(LATENCIES)}"
    prosody = _value(request, "prosody", {})
    if not isinstance(prosody, dict):
        return "a map in the field prosody"
    for fields, ranges in ((request, _NUMBERS), (prosody, _PROSODY)):
        for field_name, (low, high) in ranges.items():
            value = _value(fields, field_name, low)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                return f"a {field_name} of {low:g} to {high:g}"
    voices = _value(request, "reference_id", "")
    if not isinstance(voices, str) and not _is_list_of(voices, str):
        return "text in the field reference_id"
    return _mistake_in_references(_value(request, "references", []))


def read_request(request: Mapping[str, object]) -> Request:
    """``request``, in which ``mistake_in`` has found nothing."""
    name = str(_value(request, "format", "mp3"))
    rate = _value(request, "sample_rate", None)
    prosody = _value(request, "prosody", {})
    prosody = prosody if isinstance(prosody, dict) else {}
    voices = _value(request, "reference_id", None)
    if isinstance(voices, list):
        voices = voices[0] if voices else None
    references = _value(request, "references", [])
    return Request(
        text=str(_value(request, "text", "")),
        encoding=encoding_of(name, int(rate) if isinstance(rate, int) else None),
        format=name,
        latency=str(_value(request, "latency", "normal")),
        temperature=_number(request, "temperature", 0.7),
        top_p=_number(request, "top_p", 0.7),
        speed=_number(prosody, "speed", 1.0),
        volume=_number(prosody, "volume", 0.0),
        reference_id=voices if isinstance(voices, str) else None,
        references=tuple(
            Reference(entry["audio"], entry["text"]) for entry in (references if isinstance(references, list) else [])
        ),
    )


def _mistake_in_references(references: object) -> str | None:
    if not isinstance(references, list) or len(references) > _REFERENCES_MAX:
        return f"a list of at most {_REFERENCES_MAX} maps in the field references"
    for entry in references:
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            return "a map with text in each of the references"
        if not isinstance(entry.get("audio"), bytes):
            return "binary audio in each of the references"
    return None


def _value(fields: Mapping[str, object], name: str, default: object) -> object:
    """A field; ``default`` where it is missing or null."""
    value = fields.get(name)
    return default if value is None else value


def _number(fields: Mapping[str, object], name: str, default: float) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else default


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)


NAME = "fish"

PATH = "/v1/tts/live"

_MESSAGE_BYTES = 32 * 1024 * 1024  # the service's own limit of a frame
MAX_START_BYTES = 12 * 1024 * 1024
"""The longest ``start``, which is nearly all of it recordings: more than a connection keeps waiting would end that."""

_ENTRIES = 4096
_LOG_CHARACTERS = 2000
_SILENT_SECONDS = 240.0
# The service may be busy for more than 20 s with a long passage, without a sign of life.
_FINISH_SECONDS = 30.0


def pack(fields: Mapping[str, object]) -> bytes:
    """One map as a message; ``bytes`` become MessagePack's binary type, as the service wants them."""
    return bytes(msgpack.packb(fields, use_bin_type=True))


def unpack(message: Message) -> dict[str, object] | str:
    """The one map in ``message``, or the reason why there is none, which fits after "because". Never raises.

    At most 32 MiB; lengths that claim more than there is, endless nesting, keys that are no text, text that is no
    UTF-8 and anything after the map are refused.
    """
    if isinstance(message, str):
        return "it is a text message"
    if len(message) > _MESSAGE_BYTES:
        return f"it is bigger than {_MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        found = msgpack.unpackb(
            message,
            raw=False,
            strict_map_key=True,
            max_array_len=_ENTRIES,
            max_map_len=_ENTRIES,
            max_ext_len=_ENTRIES,
        )
    except (ValueError, msgpack.UnpackException, RecursionError, MemoryError):
        return "it is not MessagePack"
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        return "it is MessagePack, but no map of names"
    return found


class Client:
    """Speaks one utterance: ``start`` goes out with the first text, the pieces of text as they come, and ``stop`` at
    the ``End``.

    Nothing comes back for a ``Flush``; the ``End`` comes with ``finish``. Pieces of a passage are sent as they are; a
    space parts it from the next, because the service joins all text. Raises ``ValueError`` for a value that the
    service would refuse. ``prosody``: ``speed`` 0.5 to 2, ``volume`` in dB; ``references``: maps of ``audio`` (the
    bytes of a sound file) and ``text``; ``debug``: the service then sends logs.
    """

    service = NAME
    max_idle_seconds: float | None = _SILENT_SECONDS
    is_single_use = False

    def __init__(
        self,
        url: str,
        api_key: str | None,
        model: str = "speech-1.5",
        format: str = "wav",
        sample_rate: int | None = None,
        latency: str = "normal",
        temperature: float = 0.7,
        top_p: float = 0.7,
        prosody: Mapping[str, float] | None = None,
        reference_id: str | None = None,
        references: Sequence[Mapping[str, object]] = (),
        debug: bool = False,
    ) -> None:
        for name, value in (("api_key", api_key or ""), ("model", model)):
            if any(ord(letter) < 32 or ord(letter) > 126 for letter in value):
                raise ValueError(f"fish's {name} holds a character that cannot be sent in a header")
        request: dict[str, object] = {
            "text": "",
            "latency": latency,
            "format": format,
            "temperature": temperature,
            "top_p": top_p,
            "prosody": {"speed": 1.0, "volume": 0, **(prosody or {})},
        }
        if reference_id:
            request["reference_id"] = fix_surrogates(reference_id)
        if references:
            request["references"] = [
                {"audio": entry.get("audio"), "text": _cleaned(entry.get("text"))} for entry in references
            ]
        if sample_rate is not None:
            request["sample_rate"] = sample_rate
        mistake = find_error(request)
        if mistake is not None:
            raise ValueError(f"fish wants {mistake}")
        self.encoding = encoding_of(format, sample_rate)
        self._url = url
        self._api_key = api_key
        self._model = model
        self._begin = pack({"event": "start", "request": request, **({"debug": True} if debug else {})})
        if len(self._begin) > MAX_START_BYTES:
            raise ValueError(f"fish wants references of less than {MAX_START_BYTES // (1024 * 1024)} MiB in all")
        self._started = False
        self._last = ""  # the last letter of the passage that is being written
        self._stopped = False
        self._over = False

    @property
    def receive_timeout_seconds(self) -> float | None:
        """30 s while ``finish`` is awaited; before, silence means nothing."""
        return _FINISH_SECONDS if self._stopped and not self._over else None

    def handshake(self) -> Handshake:
        headers = {"model": self._model}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return Handshake(self._url, headers)

    def send(self, event: Event) -> list[Message]:
        """White space at the beginning of a passage is not sent, nor is a ``flush`` for a passage of nothing else."""
        if self._stopped or self._over:
            return []
        if isinstance(event, Text):
            text = fix_surrogates(event.text)
            if not text or not (self._last or text.strip()):
                return []
            self._last = text[-1]
            return [*self._start(), pack({"event": "text", "text": text})]
        if isinstance(event, Flush) and self._last:
            parted, self._last = self._last.isspace(), ""
            gap: list[Message] = [] if parted else [pack({"event": "text", "text": " "})]
            return [*gap, pack({"event": "flush"})]
        if isinstance(event, End):
            self._stopped = True
            return [*self._start(), pack({"event": "stop"})]
        return []

    def receive(self, message: Message) -> list[Event]:
        fields = unpack(message)
        if isinstance(fields, str):
            return [self._pass_over(message, f"a MessagePack map in a binary message, but {fields}")]
        if self._over:
            return [self._pass_over(message, "nothing after finish")]
        kind = fields.get("event")
        if kind == "audio":
            audio = fields.get("audio")
            if not isinstance(audio, bytes):
                return [self._pass_over(message, "audio as binary data")]
            if not self._started:
                return [self._pass_over(message, "no audio before start was sent")]
            return [Audio(audio)] if audio else []
        if kind == "finish":
            return [self._finish(fields)]
        if kind == "log":
            said = fields.get("message")
            if not isinstance(said, str):
                return [self._pass_over(message, "a log with text")]
            return [Log(redact(said, self._api_key)[:_LOG_CHARACTERS])]
        if not isinstance(kind, str):
            return [self._pass_over(message, "a map that names its event")]
        return []  # the document wants events that are not known to be ignored

    def receive_timeout(self) -> list[Event]:
        """The service has not finished in time."""
        if self.receive_timeout_seconds is None:
            return []
        return [self._fatal(f"nothing for {_FINISH_SECONDS:g} s after stop", "the rest of the audio, and finish")]

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """A close before ``finish`` cuts the utterance short, however politely it is done."""
        if self._over or not self._started:
            return []
        said = f", saying {excerpt(reason, self._api_key)}" if reason else ""
        return [self._fatal(f"the end of the connection ({code}{said}) before finish", "finish", code)]

    def _start(self) -> list[Message]:
        if self._started:
            return []
        self._started = True
        return [self._begin]

    def _finish(self, fields: Mapping[str, object]) -> Event:
        reason = fields.get("reason")
        said = fields.get("message")
        quoted = f", saying {excerpt(said, self._api_key)}" if isinstance(said, str) else ""
        if reason == "stop" and self._stopped:
            self._over = True
            return End()
        if reason == "stop":
            return self._fatal(f"finish before it was told to stop{quoted}", "the sound of all the text first")
        shown = excerpt(reason, self._api_key) if isinstance(reason, str) else "no reason"
        return self._fatal(f"finish with {shown}{quoted}", "finish with the reason 'stop'")

    def _fatal(self, came: str, expected: str, status: int | None = None) -> Failure:
        self._over = True
        return Failure(NAME, came[:200], expected, status=status)

    def _pass_over(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._api_key), expected, fatal=False)


class Server:
    """Takes one utterance and answers with its sound and ``finish``.

    After ``start``, ``request`` holds what was asked for and ``encoding`` how the sound is to be; ``model`` is known
    after the handshake. A ``Flush`` gets no answer but the sound; ``send(End)`` is ``finish``, and so is the
    ``send`` of a fatal ``Failure``: hand every ``Failure`` of ``receive`` to it. ``api_key``: ``None`` lets anybody
    in. ``clock``, in seconds, gives the time that each audio message tells.
    """

    service = NAME

    def __init__(self, api_key: str | None = None, clock: Callable[[], float] | None = None) -> None:
        self.encoding: Encoding = encoding_of("mp3", None)
        self.model = ""
        self.debug = False
        self.request: Request | None = None
        self._api_key = api_key
        self._clock = clock
        self._since: float | None = None
        self._stopped = False  # the client has said all it is going to say, or nothing more of it is listened to
        self._finished = False

    @property
    def voice(self) -> str:
        """The ``reference_id`` that was asked for; empty where there was none."""
        return (self.request.reference_id if self.request else None) or ""

    @property
    def speed(self) -> float:
        return self.request.speed if self.request else 1.0

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """404 for another path, 401 without the key."""
        target = parse_target(path)
        if target is None or target[0] != PATH:
            return Failure(NAME, "an upgrade on another path", PATH, permanent=True, status=404)
        scheme, _, key = (header(headers, "Authorization") or "").partition(" ")
        if self._api_key is not None and (scheme.lower() != "bearer" or not keys_match(key.strip(), self._api_key)):
            return Failure(
                NAME,
                "an upgrade without a key that is known",
                "Authorization: Bearer KEY",
                permanent=True,
                status=401,
            )
        self.model = (header(headers, "model") or "speech-1.5")[:100]
        return None

    def receive(self, message: Message) -> list[Event]:
        fields = unpack(message)
        if isinstance(fields, str):
            return [_pass_over(message, f"a MessagePack map in a binary message, but {fields}")]
        if self._stopped:
            return [_pass_over(message, "nothing after stop")]
        kind = fields.get("event")
        if kind == "start":
            return self._start(message, fields)
        if kind not in ("text", "flush", "stop"):
            return [_pass_over(message, "start, text, flush or stop")]
        if self.request is None:
            return [self._refuse(message, "start before anything else")]
        if kind == "flush":
            return [Flush()]
        if kind == "stop":
            self._stopped = True
            return [End()]
        text = fields.get("text")
        return [Text(text)] if isinstance(text, str) else [_pass_over(message, "text in the field text")]

    def send(self, event: Event) -> list[Message]:
        """Nothing goes out after ``finish``. A ``Log`` only goes to a client that asked for it with ``debug``."""
        if self._finished:
            return []
        if isinstance(event, Audio):
            return [pack({"event": "audio", "audio": event.data, "time": self._milliseconds()})] if event.data else []
        if isinstance(event, End):
            self._finished = True
            return [pack({"event": "finish", "reason": "stop"})]
        if isinstance(event, Failure):
            said = fix_surrogates(f"got {event.received}; expected {event.expected}")
            if not event.fatal:
                return self.send(Log(said))
            self._finished = self._stopped = True
            return [pack({"event": "finish", "reason": "error", "message": said})]
        if isinstance(event, Log) and self.debug:
            return [pack({"event": "log", "message": fix_surrogates(event.message)})]
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """The client has gone, and with it whatever it wanted to hear."""
        if self._stopped:
            return []
        self._stopped = True
        return [End()]

    def _start(self, message: Message, fields: Mapping[str, object]) -> list[Event]:
        if self.request is not None:
            return [self._refuse(message, "start only once")]
        asked = fields.get("request")
        if not isinstance(asked, dict):
            return [self._refuse(message, "a map in the field request of start")]
        mistake = find_error(asked)
        if mistake is not None:
            return [self._refuse(message, mistake)]
        self.request = read_request(asked)
        self.encoding = self.request.encoding
        self.debug = fields.get("debug") is True or asked.get("debug") is True
        self._milliseconds()
        return [Text(self.request.text)] if self.request.text else []

    def _refuse(self, message: Message, expected: str) -> Failure:
        self._stopped = True
        return Failure(NAME, excerpt(message, self._api_key), expected, status=400)

    def _milliseconds(self) -> float:
        """The time since it was last asked for."""
        now = self._clock() if self._clock else 0.0
        since, self._since = self._since, now
        return 0.0 if since is None else (now - since) * 1000.0


def _pass_over(message: Message, expected: str) -> Failure:
    return Failure(NAME, excerpt(message), expected, fatal=False)


def _cleaned(value: object) -> object:
    return fix_surrogates(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class ProsodySettings:
    """Speed and volume of Fish Audio's voice."""

    speed: float = key(1.0, "speed of the voice; 1 is natural", low=0.5, high=2.0)
    volume: float = key(0.0, "gain of the speech in dB", low=-20.0, high=20.0)


@dataclass(frozen=True)
class ReferenceSettings:
    """A recording of the voice to imitate."""

    audio: str = key("", "path of a recording of the voice to imitate")
    text: str = key("", "the words of the recording")


@dataclass(frozen=True)
class Settings:
    """The service Fish Audio."""

    url: str = key("wss://api.fish.audio/v1/tts/live", "WebSocket URL; change it for a server of your own")
    api_key: Secret = key(lambda: Secret(credential="fish"), "pays for the speech; where the API key is stored")
    model: str = key("speech-1.5", "name of the speech model")
    format: str = key("wav", "audio format of the speech; opus and mp3 need less bandwidth", choices=tuple(_CONTAINERS))
    sample_rate: int | None = key(
        None,
        "sample rate in Hz; null: the service's default (44100, opus 48000)",
        choices=(8000, 16000, 24000, 32000, 44100, 48000, None),
    )
    latency: str = key("normal", "balanced and low start sooner and sound less steady", choices=LATENCIES)
    temperature: float = key(0.7, "higher sounds livelier and less steady", low=0.0, high=1.0)
    top_p: float = key(0.7, "higher varies more between two readings of a text", low=0.0, high=1.0)
    prosody: ProsodySettings = key(ProsodySettings, "speed and volume")
    reference_id: str | None = key(None, "ID of a voice that is stored at Fish Audio")
    references: tuple[ReferenceSettings, ...] = key(
        (),
        "recordings of a voice to imitate",
        note="For example [{audio: /etc/voice-agent/voice.wav, text: The words of the recording.}]",
    )


def _check(settings: Settings) -> Iterator[Finding]:
    rates = RATES[settings.format]
    if settings.sample_rate is not None and settings.sample_rate not in rates:
        what = f"Fish Audio has no {settings.format} at {settings.sample_rate} Hz"
        expected = f"null or one of {', '.join(map(str, rates))}"
        yield Finding("sample_rate", f"{what}, expected {expected}", None, "format")
    if problem := header_problem(settings.model):
        yield Finding("model", problem)
    for index, reference in enumerate(settings.references):
        if problem := input_file_problem(reference.audio):
            yield Finding(f"references[{index}].audio", problem)
        if not reference.text.strip():
            yield Finding(f"references[{index}].text", "the text is missing, expected the words of the recording")


def _client(settings: Settings, url: str, api_key: str | None) -> Client:
    return Client(
        url=url,
        api_key=api_key,
        model=settings.model,
        format=settings.format,
        sample_rate=settings.sample_rate,
        latency=settings.latency,
        temperature=settings.temperature,
        top_p=settings.top_p,
        prosody=asdict(settings.prosody),
        reference_id=settings.reference_id,
        references=[{"audio": _recording(each.audio), "text": each.text} for each in settings.references],
    )


def _recording(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"the reference recording {path} cannot be read: {error.strerror}") from error


def _server(api_key: str | None, options: Mapping[str, Any]) -> ServerSide:
    return ServerSide(
        lambda: Server(api_key, clock=time.monotonic), refusal_close_code=1000, wav_layout="first", has_one_stream=True
    )


SERVICE = TtsService(
    name="fish",
    title="Fish Audio",
    settings=Settings,
    client=_client,
    check=_check,
    server=_server,
    paths=(PATH,),
    keepalive=KeepaliveTiming(ping_seconds=30.0, pong_seconds=60.0),  # measured: it answers no pings while it computes
    local_settings=lambda base: {"url": f"{base}{PATH}"},
)

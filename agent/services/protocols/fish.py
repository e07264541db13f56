"""Implements Fish Audio: MessagePack maps in binary messages, from ``start`` to ``finish``.

Sources: Fish Audio's WebSocket page; ``asyncapi.yml``, ``errors.mdx`` and ``capabilities.mdx`` of fishaudio/docs
(August 2026); fish-audio-sdk 1.3.0, the npm SDK, LiveKit and pipecat, measured on the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgpack

from agent.config.errors import Finding
from agent.config.fields import key, section
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
from agent.services.protocols.fish_request import LATENCIES, RATES, Request, encoding_of, read_request
from agent.services.protocols.handshake import describe_close, header, keys_match, parse_target
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, redact
from agent.system.named_tuple import NamedTuple

NAME = "fish"
PATH = "/v1/tts/live"

_MAX_MESSAGE_BYTES = 32 * 1024 * 1024  # the frame limit of the service (documented for its compatible sockets)
MAX_START_BYTES = 12 * 1024 * 1024
"""Limit of the message ``start`` with its recordings. A larger one could exceed a connection's ``MAX_UNSENT_BYTES``."""
_MAX_ENTRIES = 4096
_MAX_LOG_CHARACTERS = 2000
_MAX_IDLE_SECONDS = 240.0
# The service may send neither a message nor a pong for more than 20 s in a long passage (fish-audio-python #47).
_FINISH_SECONDS = 30.0
_REUSE_SECONDS = 2.0
"""How long our server waits for another ``start`` after ``finish``: LiveKit sends the next ``start`` on the same
connection immediately. Then the server closes the connection, because the service does so after ``finish``
(asyncapi.yml), and the example of its page reads until the close."""


def pack(fields: Mapping[str, object]) -> bytes:
    """Encode a map. ``bytes`` become the binary type of MessagePack, which the service requires for audio."""
    return bytes(msgpack.packb(fields, use_bin_type=True))


def unpack(message: Message) -> dict[str, object] | str:
    """Decode the map in a message of at most 32 MiB. Never raises.

    Refused are lengths beyond the end of the message, excessive nesting, keys that are not text, invalid UTF-8 and data
    after the map.

    Returns:
        The map, or the reason for the refusal as a clause that fits after "because".
    """
    if isinstance(message, str):
        return "it is a text message"
    if len(message) > _MAX_MESSAGE_BYTES:
        return f"it is bigger than {_MAX_MESSAGE_BYTES // (1024 * 1024)} MiB"
    try:
        fields = msgpack.unpackb(
            message,
            raw=False,
            strict_map_key=True,
            max_array_len=_MAX_ENTRIES,
            max_map_len=_MAX_ENTRIES,
            max_ext_len=_MAX_ENTRIES,
        )
    except (ValueError, msgpack.UnpackException, RecursionError, MemoryError):
        return "it is not MessagePack"
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        return "it is MessagePack, but no map of names"
    return fields


class Client:
    """The client codec of one utterance: ``start`` before the first text, ``text`` for each piece, then ``stop``.

    The service does not acknowledge a ``flush``, so the codec returns no ``Flush``. It returns ``End`` for ``finish``.
    Pieces of a passage are sent unchanged. Two passages are separated by a space, because the service concatenates all
    text. Not thread-safe; owned by the thread that owns the connection.

    Args:
        url: The URL.
        api_key: The API key, sent as a header.
        model: The model, sent as a header.
        format: One of ``RATES``.
        sample_rate: In Hz, one of ``RATES[format]``; ``None``: the default of the service.
        latency: One of ``LATENCIES``.
        temperature, top_p: 0 to 1.
        prosody: ``speed`` 0.5 to 2, ``volume`` -20 to 20 dB.
        reference_id: The ID of a stored voice.
        references: Maps of ``audio`` (the bytes of an audio file) and ``text``.
        debug: Whether to request ``log`` messages.

    Raises:
        ValueError: The service would refuse a value.
    """

    service = NAME
    max_idle_seconds: float | None = _MAX_IDLE_SECONDS
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
            if any(not " " <= character <= "~" for character in value):
                raise ValueError(f"fish's {name} contains a character that cannot be sent in a header")
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
                {"audio": entry.get("audio"), "text": _fix_text(entry.get("text"))} for entry in references
            ]
        if sample_rate is not None:
            request["sample_rate"] = sample_rate
        parameters = read_request(request)
        if isinstance(parameters, str):
            raise ValueError(f"fish expects {parameters}")
        self.encoding = parameters.encoding
        self._url = url
        self._api_key = api_key
        self._model = model
        self._start_message = pack({"event": "start", "request": request, **({"debug": True} if debug else {})})
        if len(self._start_message) > MAX_START_BYTES:
            raise ValueError(f"fish expects references of less than {MAX_START_BYTES // (1024 * 1024)} MiB in all")
        self._start_sent = False
        self._last = ""  # the last character of the current passage
        self._stop_sent = False
        self._has_audio = False
        self._is_over = False  # End or a fatal Failure was returned

    @property
    def receive_timeout_seconds(self) -> float | None:
        """30 s after ``stop``, until ``finish``, but only after the first audio; otherwise no timeout."""
        return _FINISH_SECONDS if self._stop_sent and self._has_audio and not self._is_over else None

    def handshake(self) -> Handshake:
        headers = {"model": self._model}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return Handshake(self._url, headers)

    def send(self, event: Event) -> list[Message]:
        """Encode an event. A passage of white space only encodes to nothing."""
        if self._stop_sent or self._is_over:
            return []
        if isinstance(event, Text):
            text = fix_surrogates(event.text)
            if not text or not (self._last or text.strip()):
                return []
            self._last = text[-1]
            return [*self._start(), pack({"event": "text", "text": text})]
        if isinstance(event, Flush) and self._last:
            is_separated, self._last = self._last.isspace(), ""
            separator: list[Message] = [] if is_separated else [pack({"event": "text", "text": " "})]
            return [*separator, pack({"event": "flush"})]
        if isinstance(event, End):
            self._stop_sent = True
            return [*self._start(), pack({"event": "stop"})]
        return []

    def receive(self, message: Message) -> list[Event]:
        fields = unpack(message)
        if isinstance(fields, str):
            return [self._ignore(message, f"a MessagePack map in a binary message, but {fields}")]
        if self._is_over:
            return [self._ignore(message, "nothing after finish")]
        kind = fields.get("event")
        if kind == "audio":
            audio = fields.get("audio")
            if not isinstance(audio, bytes):
                return [self._ignore(message, "audio as binary data")]
            if not self._start_sent:
                return [self._ignore(message, "no audio before start was sent")]
            if not audio:
                return []
            self._has_audio = True
            return [Audio(audio)]
        if kind == "finish":
            return [self._finish(fields)]
        if kind == "log":
            text = fields.get("message")
            if not isinstance(text, str):
                return [self._ignore(message, "a log with text")]
            return [Log(redact(text, self._api_key)[:_MAX_LOG_CHARACTERS])]
        if not isinstance(kind, str):
            return [self._ignore(message, "a map that names its event")]
        return []  # asyncapi.yml: clients ignore unknown events

    def receive_timeout(self) -> list[Event]:
        """Return a fatal failure: the service did not finish in time."""
        if self.receive_timeout_seconds is None:
            return []
        return [self._fatal(f"nothing for {_FINISH_SECONDS:g} s after stop", "the rest of the audio, and finish")]

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return a fatal failure if ``finish`` is missing, for every close code: the utterance is incomplete."""
        if self._is_over or not self._start_sent:
            return []
        return [self._fatal(f"{describe_close(code, reason, self._api_key)} before finish", "finish", code)]

    def _start(self) -> list[Message]:
        if self._start_sent:
            return []
        self._start_sent = True
        return [self._start_message]

    def _finish(self, fields: Mapping[str, object]) -> Event:
        reason = fields.get("reason")
        text = fields.get("message")
        quoted = f" and the message {excerpt(text, self._api_key)}" if isinstance(text, str) else ""
        if reason == "stop" and self._stop_sent:
            self._is_over = True
            return End()
        if reason == "stop":
            return self._fatal(f"finish before stop was sent{quoted}", "the audio of all the text first")
        shown = excerpt(reason, self._api_key) if isinstance(reason, str) else "no reason"
        return self._fatal(f"finish with {shown}{quoted}", "finish with the reason 'stop'")

    def _fatal(self, received: str, expected: str, status: int | None = None) -> Failure:
        self._is_over = True
        return Failure(NAME, received[:200], expected, status=status)

    def _ignore(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._api_key), expected, fatal=False)


class Server:
    """The server codec. It answers each utterance with audio, and then with ``finish``.

    A client begins an utterance with ``start`` and ends it with ``stop``. A connection may serve several utterances,
    one after the other, as LiveKit uses it: the next ``start`` may arrive before ``finish`` was sent, or soon after
    it. A ``Flush`` is answered by audio only. ``send`` encodes ``End`` and a fatal ``Failure`` as ``finish``. Pass
    every ``Failure`` of ``receive`` to ``send``. Not thread-safe; owned by the connection's thread.

    Args:
        api_key: The key that clients must send; ``None``: no key is required.
        clock: Returns a time in seconds, from which the field ``time`` of audio messages is computed; ``None``: the
            field is 0.

    Attributes:
        request: The parameters of the last ``start``; ``None`` before the first one.
        encoding: The encoding of the audio, set by ``start``.
        model: The model, set by the handshake.
        debug: Whether the client has requested ``log`` messages.
    """

    service = NAME

    def __init__(self, api_key: str | None = None, clock: Callable[[], float] | None = None) -> None:
        self.encoding: Encoding = encoding_of("mp3", None)
        self.model = ""
        self.debug = False
        self.request: Request | None = None
        self._api_key = api_key
        self._clock = clock
        self._last_call: float | None = None
        self._is_over = False  # the client sends nothing more, or its messages are ignored
        self._has_failed = False  # finish with an error was sent
        self._has_begun = False  # between start and stop
        self._unfinished = 0  # utterances without finish

    @property
    def voice(self) -> str:
        """The requested ``reference_id``, or an empty string."""
        return (self.request.reference_id if self.request else None) or ""

    @property
    def speed(self) -> float:
        return self.request.speed if self.request else 1.0

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Check path and key."""
        target = parse_target(path)
        if target is None or target[0] != PATH:
            return Failure(NAME, "a handshake on another path", PATH, permanent=True, status=404)
        scheme, _, key = (header(headers, "Authorization") or "").partition(" ")
        if self._api_key is not None and (scheme.lower() != "bearer" or not keys_match(key.strip(), self._api_key)):
            expected = "Authorization: Bearer KEY"
            return Failure(NAME, "a handshake without a valid key", expected, permanent=True, status=401)
        self.model = (header(headers, "model") or "speech-1.5")[:100]
        return None

    def receive(self, message: Message) -> list[Event]:
        fields = unpack(message)
        if isinstance(fields, str):
            return [_ignore(message, f"a MessagePack map in a binary message, but {fields}")]
        if self._is_over:
            return [_ignore(message, "nothing after an error")]
        kind = fields.get("event")
        if kind == "start":
            return self._start(message, fields)
        if kind not in ("text", "flush", "stop"):
            return [_ignore(message, "start, text, flush or stop")]
        if self.request is None:
            return [self._refuse(message, "start before anything else")]
        if not self._has_begun:
            return [_ignore(message, "start after stop")]
        if kind == "flush":
            return [Flush()]
        if kind == "stop":
            self._has_begun = False
            return [End()]
        text = fields.get("text")
        return [Text(text)] if isinstance(text, str) else [_ignore(message, "text in the field text")]

    def send(self, event: Event) -> list[Message]:
        """Encode an event.

        ``Audio`` and ``End`` after the last utterance, and ``Log`` without ``debug``, encode to nothing.
        """
        if self._has_failed:
            return []
        if isinstance(event, Failure):
            text = fix_surrogates(f"got {event.received}; expected {event.expected}")
            if not event.fatal:
                return self.send(Log(text))
            self._has_failed = self._is_over = True
            return [pack({"event": "finish", "reason": "error", "message": text})]
        if isinstance(event, Log):
            return [pack({"event": "log", "message": fix_surrogates(event.message)})] if self.debug else []
        if self.request is not None and not self._unfinished:
            return []
        if isinstance(event, Audio):
            return [pack({"event": "audio", "audio": event.data, "time": self._milliseconds()})] if event.data else []
        if isinstance(event, End):
            self._unfinished = max(0, self._unfinished - 1)
            return [pack({"event": "finish", "reason": "stop"})]
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return ``End``, unless the client has already ended its utterance with ``stop``."""
        if self._is_over or (self.request is not None and not self._has_begun):
            return []
        self._is_over = True
        return [End()]

    def _start(self, message: Message, fields: Mapping[str, object]) -> list[Event]:
        if self._has_begun:
            return [self._refuse(message, "stop before the next start")]
        request = fields.get("request")
        if not isinstance(request, dict):
            return [self._refuse(message, "a map in the field request of start")]
        parameters = read_request(request)
        if isinstance(parameters, str):
            return [self._refuse(message, parameters)]
        self.request, self._has_begun = parameters, True
        self._unfinished += 1
        self.encoding = self.request.encoding
        self.debug = fields.get("debug") is True or request.get("debug") is True
        self._milliseconds()
        return [Text(self.request.text)] if self.request.text else []

    def _refuse(self, message: Message, expected: str) -> Failure:
        self._is_over = True
        return Failure(NAME, excerpt(message, self._api_key), expected, status=400)

    def _milliseconds(self) -> float:
        """Return the milliseconds since the last call."""
        now = self._clock() if self._clock else 0.0
        last, self._last_call = self._last_call, now
        return 0.0 if last is None else (now - last) * 1000.0


def _ignore(message: Message, expected: str) -> Failure:
    return Failure(NAME, excerpt(message), expected, fatal=False)


def _fix_text(value: object) -> object:
    return fix_surrogates(value) if isinstance(value, str) else value


@section
class ProsodySettings(NamedTuple):
    """Speed and volume of Fish Audio's voice."""

    speed: float = key(1.0, "speed of the voice; 2 is twice as fast", low=0.5, high=2.0)
    volume: float = key(0.0, "gain of the speech in dB; 6 is twice the amplitude", low=-20.0, high=20.0)


@section
class ReferenceSettings(NamedTuple):
    """A recording of the voice to imitate."""

    audio: str = key("", "path of a recording of the voice to imitate")
    text: str = key("", "the words of the recording")


@section
class Settings(NamedTuple):
    """The service Fish Audio."""

    url: str = key("wss://api.fish.audio/v1/tts/live", "WebSocket URL; change it for a server of your own")
    api_key: Secret = key(
        lambda: Secret(credential="fish"), "where the API key is stored; its account pays for the speech"
    )
    model: str = key("speech-1.5", "name of the speech model")
    format: str = key("wav", "audio format of the speech; opus and mp3 need less bandwidth", choices=tuple(RATES))
    sample_rate: int | None = key(
        None,
        "sample rate in Hz, higher sounds clearer; null: the service's default (44100, opus 48000)",
        choices=(8000, 16000, 24000, 32000, 44100, 48000, None),
    )
    latency: str = key("normal", "balanced and low have less delay and a less stable voice", choices=LATENCIES)
    temperature: float = key(0.7, "higher is livelier and less stable", low=0.0, high=1.0)
    top_p: float = key(0.7, "higher varies more when the same text is spoken again", low=0.0, high=1.0)
    prosody: ProsodySettings = key(ProsodySettings, "speed and volume of the voice")
    reference_id: str | None = key(
        None, "ID of a voice that is stored at Fish Audio; null: the default voice of the model"
    )
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
        prosody=settings.prosody._asdict(),
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
    codec = partial(Server, api_key, clock=time.monotonic)
    return ServerSide(
        codec,
        refusal_close_code=1000,
        wav_layout="first",
        has_one_stream=True,
        reuse_seconds=_REUSE_SECONDS,
        max_message_bytes=MAX_START_BYTES,
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

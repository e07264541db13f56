"""Implements Vachana (Gnani.ai): one JSON request for each passage, answered with binary audio or JSON messages.

Sources for the two variants: the page "TTS WebSocket" (binary chunks, no end mark); gnani-vachana 0.8.2, LiveKit and
pipecat-gnani (JSON messages ``start``, ``audio`` with base64 in ``data.audio``, ``complete`` and ``error``). The client
detects the variant of the server from its messages.
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.config.secrets import Secret
from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Handshake,
    Message,
    ServerOption,
    ServerSide,
    Text,
    TtsService,
)
from agent.services.protocols.handshake import (
    describe_close,
    header,
    keys_match,
    parse_target,
    reported_error,
    reports_error,
)
from agent.services.protocols.parsing import decode_base64, dump_error, dump_json, excerpt, is_wav_header
from agent.services.protocols.request_ids import ADOPTION_SECONDS, RequestIds
from agent.system.json_text import fix_surrogates, json_type, parse_json
from agent.system.named_tuple import NamedTuple

NAME = "vachana"
PATH = "/api/v1/tts"
SPEED = (0.5, 2.0)

AUDIO_CONFIG: Mapping[str, int | str] = {
    "sample_rate": 44100,
    "num_channels": 1,
    "sample_width": 2,
    "encoding": "linear_pcm",
    "container": "wav",
}
"""The example of the page, and the default of each field that a request omits. ``sample_rate`` is in Hz,
``sample_width`` in bytes."""

_PAUSE_SECONDS = 2.5  # a longer pause after a binary chunk counts as the end of the audio
_IMMEDIATE_SECONDS = 0.05
_MAX_REQUESTS = 1000
_CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "sample_rate": (8000, 16000, 22050, 24000, 44100, 48000),
    "num_channels": (1, 2),
    "sample_width": (1, 2),
    "encoding": ("linear_pcm", "oggopus", "pcm_mulaw", "pcm_alaw"),
    "container": ("raw", "wav", "mp3", "ogg", "mulaw", "alaw"),
}
_FORMATS: Mapping[tuple[str, str], tuple[str, str]] = {
    # (encoding, container): (container, samples) of the decoder
    ("linear_pcm", "raw"): ("raw", "s16le"),
    ("linear_pcm", "wav"): ("wav", "s16le"),
    ("linear_pcm", "mp3"): ("mp3", "s16le"),
    ("linear_pcm", "ogg"): ("opus", "s16le"),
    ("linear_pcm", "mulaw"): ("raw", "mulaw"),
    ("linear_pcm", "alaw"): ("raw", "alaw"),
    ("oggopus", "raw"): ("opus", "s16le"),
    ("oggopus", "ogg"): ("opus", "s16le"),
    ("pcm_mulaw", "raw"): ("raw", "mulaw"),
    ("pcm_mulaw", "wav"): ("wav", "mulaw"),
    ("pcm_mulaw", "mulaw"): ("raw", "mulaw"),
    ("pcm_alaw", "raw"): ("raw", "alaw"),
    ("pcm_alaw", "wav"): ("wav", "alaw"),
    ("pcm_alaw", "alaw"): ("raw", "alaw"),
}


def read_audio_config(value: object) -> dict[str, int | str] | str:
    """Complete and check an ``audio_config``. Never raises.

    Args:
        value: A mapping, an object with attributes of these names, or ``None`` for the defaults. Unknown fields are
            ignored.

    Returns:
        The five fields in the order of the page, or the first error as a clause that fits after "expected".
    """
    if value is None:
        return dict(AUDIO_CONFIG)
    if isinstance(value, AudioSettings):
        value = value._asdict()
    if isinstance(value, str | bytes | int | float | list | tuple):
        return f"audio_config to be an object, not {json_type(value)}"
    config: dict[str, int | str] = {}
    for name, default in AUDIO_CONFIG.items():
        entry = value.get(name, default) if isinstance(value, Mapping) else getattr(value, name, default)
        if isinstance(entry, bool) or not isinstance(entry, int | str) or entry not in _CHOICES[name]:
            shown = excerpt(entry) if isinstance(entry, str) else excerpt(str(entry)[:40])
            return f"audio_config.{name} to be one of {', '.join(map(str, _CHOICES[name]))}, not {shown}"
        config[name] = entry
    pair = (str(config["encoding"]), str(config["container"]))
    if pair not in _FORMATS:
        return f"an audio_config whose container holds its encoding, not {pair[0]} in {pair[1]}"
    samples = _FORMATS[pair][1]
    if samples == "s16le" and config["sample_width"] != 2:
        return "audio_config.sample_width to be 2 for samples that are not mu-law or A-law"
    if samples != "s16le" and config["sample_rate"] != 8000:
        return f"audio_config.sample_rate to be 8000 for {samples}, not {config['sample_rate']}"
    return config


def encoding_of(audio_config: Mapping[str, int | str]) -> Encoding:
    """Return the encoding of the response to a request with this (valid) ``audio_config``."""
    container, samples = _FORMATS[(str(audio_config["encoding"]), str(audio_config["container"]))]
    return Encoding(container, int(audio_config["sample_rate"]), int(audio_config["num_channels"]), samples)


class Client:
    """The client codec. Pieces of text are collected until the passage is complete and then sent as one request.

    The codec returns ``End`` in these cases:

    * ``End`` was sent, and the ``complete`` of the last request arrives.
    * The connection closes with the code 1000 after audio of the last request. Some servers close in place of a
      ``complete``, and gnani-vachana 0.8.2 accepts this close as the end.
    * The connection closes without a code after audio of the last request, unless a ``complete`` is missing after a
      ``start``.
    * The audio pauses for 2.5 s, and the server sends binary audio only.

    Any other close before the end of the audio is a fatal failure. Messages with the ``request_id`` of another request
    are refused, as is the audio between its ``start`` and ``complete``. Not thread-safe; owned by the thread that owns
    the connection.

    Args:
        url: The URL.
        api_key: The API key, sent as a header.
        voice, language, model: Sent unchecked, because the service often renames them.
        speed: 0.5 to 2; ``None``: not sent.
        audio_config: As for ``read_audio_config``.

    Raises:
        ValueError: A value is out of range.
    """

    service = NAME
    max_idle_seconds: float | None = None
    is_single_use = True
    """gnani-vachana 0.8.2 opens a connection for each request, and some servers close it after each request."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        voice: str = "Sia",
        language: str = "IND-IN",
        model: str = "vachana-voice-v1",
        speed: float | None = None,
        audio_config: object = None,
    ) -> None:
        config = read_audio_config(audio_config)
        if isinstance(config, str):
            raise ValueError(f"vachana expects {config}")
        if speed is not None and not SPEED[0] <= speed <= SPEED[1]:
            raise ValueError(f"vachana expects speed to be a number from {SPEED[0]} to {SPEED[1]}, not {speed}")
        self.encoding: Encoding = encoding_of(config)
        self.receive_timeout_seconds: float | None = None
        self._url, self._key = url, api_key
        self._options: dict[str, object] = {
            "voice": voice,
            "language": language,
            "model": model,
            "audio_config": config,
        }
        if speed is not None:
            self._options["speed"] = speed
        self._pieces: list[str] = []
        self._requested = 0
        self._completed = 0
        self._end_sent = False
        self._is_over = False  # End or a fatal Failure was returned
        self._server_has_json = False  # the server marks the end of each request, so a pause is not the end
        self._owes_complete = False  # start has arrived for the current request, and complete has not
        self._request_ids = RequestIds()
        self._is_foreign = False  # whether audio without an ID belongs to another request
        self._has_audio = False  # audio (not only a WAV header) has arrived since the last complete

    def handshake(self) -> Handshake:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["X-API-Key-ID"] = self._key
        return Handshake(self._url, headers)

    def send(self, event: Event) -> list[Message]:
        messages: list[Message] = []
        if self._end_sent:
            return messages
        if isinstance(event, Text):
            self._pieces.append(fix_surrogates(event.text))
        elif isinstance(event, Flush | End):
            text = "".join(self._pieces)
            self._pieces.clear()
            if text.strip():
                request = {"text": text, **self._options}
                if isinstance(event, Flush) and event.request_id is not None:
                    request["request_id"] = event.request_id
                messages.append(dump_json(request))
                self._request_ids.add(event.request_id if isinstance(event, Flush) else None)
                self._requested += 1
            self._end_sent = isinstance(event, End)
        self._set_timeout()
        return messages

    def receive(self, message: Message) -> list[Event]:
        if isinstance(message, bytes):
            events = self._audio(message, message)
        else:
            fields = parse_json(message)
            if isinstance(fields, str):
                return [self._refuse(message, f"binary audio or a JSON object ({fields})")]
            events = self._json_message(message, fields)
        self._set_timeout()
        return events

    def receive_timeout(self) -> list[Event]:
        if self._request_ids.has_held and not self._is_over:
            return self._adopt()
        is_complete = self._completed >= self._requested
        return [] if self.receive_timeout_seconds is None else self._end(is_marked=is_complete)

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._request_ids.has_held:
            return [*self._adopt(), *self.receive_close(code, reason)]
        if self._is_over:
            return []
        waiting = self._requested - self._completed
        if not waiting and not self._pieces:
            return self._end() if self._requested or self._end_sent else []
        # A server with JSON must complete all but the last request. With binary audio, a normal close is the end.
        if (
            (code == 1000 or (code == 1005 and not self._owes_complete))
            and self._has_audio
            and not self._pieces
            and (waiting == 1 or not self._server_has_json)
        ):
            return self._end(is_marked=not self._owes_complete)
        self._is_over = True
        self.receive_timeout_seconds = None
        expected = "all the audio of the request before the connection ends"
        received = describe_close(code, reason, self._key)
        return [Failure(NAME, received, expected, status=code, is_end_missing=self._owes_complete)]

    def _json_message(self, message: str, fields: dict[str, object]) -> list[Event]:
        kind = fields.get("type")
        if kind not in ("start", "audio", "complete") and reports_error(fields):
            kind = "error"
        if kind not in ("start", "audio", "complete", "error"):
            expected = "a message of the type start, audio, complete or error"
            return [self._refuse(message, expected, is_unknown=isinstance(kind, str))]
        data = fields.get("data")
        holder = data if isinstance(data, dict) else fields
        request_id = fields.get("request_id", holder.get("request_id"))
        if self._request_ids.claim_or_reject(request_id):
            if kind != "audio":
                self._is_foreign = kind == "start"
            has_audio = bool(holder.get("audio"))
            return [self._refuse_foreign(message, request_id, has_audio=has_audio, is_error=kind == "error")]
        if kind == "audio" and request_id is None and self._is_foreign:
            return [self._refuse_foreign(message, has_audio=True)]
        if kind == "error":
            if self._is_over:
                return []
            self._is_over = True
            return [reported_error(NAME, message, fields, self._key)]
        self._server_has_json = True
        if kind in ("start", "complete"):
            self._is_foreign = False
            self._owes_complete = kind == "start"
            if request_id is None:
                self._request_ids.settle_without_id()
        events: list[Event] = []
        if holder.get("audio") is not None:
            audio = decode_base64(holder["audio"])
            if isinstance(audio, str):
                events.append(self._refuse(message, f"base64 in data.audio ({audio})"))
            else:
                events += self._audio(message, audio)
        elif kind == "audio":
            events.append(self._refuse(message, "base64 in data.audio"))
        if kind == "complete" and self._completed < self._requested and not self._is_over:
            self._completed += 1
            self._has_audio = False
            events.append(Flush())
            if self._end_sent and self._completed == self._requested:
                events += self._end()
        return events

    def _audio(self, message: Message, audio: bytes) -> list[Event]:
        if not audio:
            return []
        if self._is_over:
            return [self._refuse(message, "no audio after the last passage")]
        if isinstance(message, bytes) and self._is_foreign:
            return [self._refuse_foreign(message, has_audio=not is_wav_header(audio))]
        self._has_audio = self._has_audio or not is_wav_header(audio)
        return [Audio(audio)]

    def _set_timeout(self) -> None:
        self.receive_timeout_seconds = None
        if self._is_over:
            return
        if self._request_ids.has_held_audio:
            self.receive_timeout_seconds = ADOPTION_SECONDS
        elif not self._end_sent:
            return
        elif self._completed >= self._requested:
            # All requests were complete before End was sent, so no message will arrive that returns the End event.
            self.receive_timeout_seconds = _IMMEDIATE_SECONDS
        elif self._has_audio and not self._server_has_json:
            self.receive_timeout_seconds = _PAUSE_SECONDS

    def _end(self, *, is_marked: bool = True) -> list[Event]:
        self.receive_timeout_seconds = None
        self._is_over = True
        return [End(is_marked=is_marked)]

    def _adopt(self) -> list[Event]:
        self._is_foreign = False
        return [event for message in self._request_ids.adopt() for event in self.receive(message)]

    def _refuse(self, message: Message, expected: str, *, is_unknown: bool = False) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False, is_unknown=is_unknown)

    def _refuse_foreign(
        self, message: Message, request_id: object = None, *, has_audio: bool = False, is_error: bool = False
    ) -> Failure:
        self._request_ids.hold(message, request_id, has_audio=has_audio, is_error=is_error)
        received = excerpt(message, self._key)
        return Failure(NAME, received, "messages of its own request", fatal=False, is_foreign=True)


class Server:
    """The server codec: sends JSON messages, or with ``binary=True`` binary audio chunks as the page describes.

    For a request, ``receive`` returns ``Text`` and ``Flush`` and sets the attributes below. Respond with any number of
    ``send(Audio)`` and then ``send(Flush)``. A connection accepts any number of requests, which are answered in order.
    For an invalid request, ``receive`` returns a ``Failure``; ``send`` encodes it as the error message of the service.
    Binary chunks have no end mark, so the session must close the connection with the code 1000 after the last requested
    audio. Not thread-safe; owned by the connection's thread.

    Attributes:
        encoding, voice, language, model, speed, audio_config: The values of the last request.
    """

    service = NAME

    def __init__(self, api_key: str | None = None, *, binary: bool = False) -> None:
        self._key = api_key
        self._is_binary = binary
        self.audio_config: dict[str, int | str] = dict(AUDIO_CONFIG)
        self.encoding = encoding_of(self.audio_config)
        self.voice, self.language, self.model = "", "", ""
        self.speed = 1.0
        self._requests: deque[str] = deque()
        self._count = 0
        self._chunk: int | None = None  # number of audio messages of the current response; None: before its start
        self._is_over = False

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Check the path and the API key."""
        target = parse_target(path)
        place = "" if target is None else target[0]
        if place.rstrip("/") != PATH:
            return Failure(NAME, excerpt(place), f"the path {PATH}", permanent=True, status=404)
        if self._key and not keys_match(header(headers, "X-API-Key-ID"), self._key):
            expected = "its key in the header X-API-Key-ID"
            return Failure(NAME, "no key or a wrong key", expected, permanent=True, status=401)
        return None

    def receive(self, message: Message) -> list[Event]:
        if isinstance(message, bytes):
            return [self._refuse(message, "a request as a text message")]
        fields = parse_json(message)
        if isinstance(fields, str):
            return [self._refuse(message, f"a request as a JSON object ({fields})")]
        text = fields.get("text")
        if not isinstance(text, str) or not text:
            received = json_type(text) if text else "none"
            return [self._refuse(message, f"text to speak in its field text, not {received}")]
        names: dict[str, str] = {}
        for name in ("voice", "language", "model", "request_id"):
            value = fields.get(name)
            if value is not None and not isinstance(value, str):
                return [self._refuse(message, f"{name} to be text, not {json_type(value)}")]
            names[name] = fix_surrogates(value or "")[:200]
        speed = _number(fields.get("speed", 1.0))
        if not SPEED[0] <= speed <= SPEED[1]:
            return [self._refuse(message, f"speed to be a number from {SPEED[0]} to {SPEED[1]}")]
        config = read_audio_config(fields.get("audio_config"))
        if isinstance(config, str):
            return [self._refuse(message, config)]
        if len(self._requests) >= _MAX_REQUESTS:
            return [Failure(NAME, excerpt(message), f"at most {_MAX_REQUESTS} requests that wait for their audio")]
        self.audio_config, self.encoding = config, encoding_of(config)
        self.voice, self.language, self.model, self.speed = names["voice"], names["language"], names["model"], speed
        self._count += 1
        request_id = names["request_id"] or f"req_{self._count:012x}"
        self._requests.append(request_id)
        return [Text(fix_surrogates(text), request_id), Flush(request_id)]

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Audio) and event.data:
            if self._is_binary:
                return [event.data]
            messages = self._start()
            audio = base64.b64encode(event.data).decode("ascii")
            data = {"audio": audio, "chunk_index": self._chunk or 0, "is_final": False}
            self._chunk = (self._chunk or 0) + 1
            return [*messages, dump_json({"type": "audio", "data": data})]
        if isinstance(event, Flush):
            messages = [] if self._is_binary else self._start()
            if not self._is_binary:
                messages.append(dump_json({"type": "complete", "request_id": self._request_id(), "data": None}))
            self._chunk = None
            if self._requests:
                self._requests.popleft()
            return messages
        if isinstance(event, Failure):
            return [dump_error(event)]
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return ``End``: the client sends nothing more."""
        if self._is_over:
            return []
        self._is_over = True
        return [End()]

    def _start(self) -> list[Message]:
        if self._chunk is not None:
            return []
        self._chunk = 0
        return [dump_json({"type": "start", "request_id": self._request_id(), "message": "synthesis started"})]

    def _request_id(self) -> str | None:
        return self._requests[0] if self._requests else None

    def _refuse(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False)


def _number(value: object) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return value if abs(value) < 1e6 else math.nan


@section
class AudioSettings(NamedTuple):
    """The audio format that is requested from Vachana."""

    sample_rate: int = key(
        44100,
        "sample rate in Hz; higher sounds clearer and needs more bandwidth",
        choices=(8000, 16000, 22050, 24000, 44100, 48000),
    )
    num_channels: int = key(1, "number of channels; 2 needs twice the bandwidth", choices=(1, 2))
    sample_width: int = key(2, "bytes of a sample; 1 is noisier and needs half the bandwidth", choices=(1, 2))
    encoding: str = key(
        "linear_pcm",
        "encoding of the samples; oggopus needs the least bandwidth",
        choices=("linear_pcm", "oggopus", "pcm_mulaw", "pcm_alaw"),
    )
    container: str = key(
        "wav",
        "file format of the samples; it has to fit the encoding",
        choices=("raw", "wav", "mp3", "ogg", "mulaw", "alaw"),
    )


@section
class Settings(NamedTuple):
    """The service Vachana."""

    url: str = key("wss://api.vachana.ai/api/v1/tts", "WebSocket URL; change it for a server of your own")
    api_key: Secret = key(
        lambda: Secret(credential="vachana"), "where the API key is stored; its account pays for the speech"
    )
    voice: str = key("Sia", "name of the voice")
    language: str = key("IND-IN", "language of the text, which decides the pronunciation")
    model: str = key("vachana-voice-v1", "name of the speech model")
    speed: float | None = key(None, "speed of the voice, 2 is twice as fast; null: not sent", low=0.5, high=2.0)
    audio_config: AudioSettings = key(AudioSettings, "audio format of the speech")


_CONTAINERS = {
    "linear_pcm": ("raw", "wav", "mp3"),
    "oggopus": ("raw", "ogg"),
    "pcm_mulaw": ("raw", "wav", "mulaw"),
    "pcm_alaw": ("raw", "wav", "alaw"),
}


def _check(settings: Settings) -> Iterator[Finding]:
    audio, cause = settings.audio_config, "audio_config.encoding"
    containers = _CONTAINERS[audio.encoding]
    if audio.container not in containers:
        what = f"{audio.encoding} is not available in the container {audio.container}"
        yield Finding("audio_config.container", f"{what}, expected one of {', '.join(containers)}", None, cause)
    if audio.encoding in ("pcm_mulaw", "pcm_alaw") and audio.sample_rate != 8000:
        what = f"{audio.encoding} is available at 8000 Hz only, not at {audio.sample_rate}, expected 8000"
        yield Finding("audio_config.sample_rate", what, "8000", cause)
    if audio.encoding == "oggopus" and audio.sample_rate in (22050, 44100):
        what = f"Opus has no rate of {audio.sample_rate} Hz, expected one of 8000, 16000, 24000, 48000"
        yield Finding("audio_config.sample_rate", what, None, cause)
    if audio.encoding in ("linear_pcm", "oggopus") and audio.sample_width != 2:
        what = f"{audio.encoding} is played with samples of 2 bytes only, expected 2"
        yield Finding("audio_config.sample_width", what, "2", cause)


def _client(settings: Settings, url: str, api_key: str | None) -> Client:
    return Client(
        url=url,
        api_key=api_key,
        voice=settings.voice,
        language=settings.language,
        model=settings.model,
        speed=settings.speed,
        audio_config=settings.audio_config,
    )


def _server(api_key: str | None, options: Mapping[str, Any]) -> ServerSide:
    is_binary = bool(options.get("--vachana-binary"))
    return ServerSide(lambda: Server(api_key, binary=is_binary), wav_layout=None, closes_after_passage=is_binary)


SERVICE = TtsService(
    name="vachana",
    title="Vachana",
    settings=Settings,
    client=_client,
    check=_check,
    server=_server,
    server_options=(
        ServerOption("--vachana-binary", "send bare binary chunks with vachana, as its first documentation describes"),
    ),
    paths=(PATH, f"{PATH}/"),
    local_settings=lambda base: {"url": f"{base}{PATH}"},
)

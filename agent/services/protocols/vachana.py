"""Vachana: one JSON request for each passage, answered with binary sound or with JSON messages.

Source: the service's page "TTS WebSocket" (binary chunks, no end mark), and what its SDK 0.8.2 and the integrations
read today: ``start``, ``audio`` with base64 in ``data.audio``, ``complete``, ``error``. Which of the two a server
speaks shows in what arrives.
"""

from __future__ import annotations

import base64
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.config.errors import Finding
from agent.config.fields import key
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
from agent.services.protocols.handshake import header, keys_match, parse_target
from agent.services.protocols.parsing import decode_base64, excerpt, is_permanent, status_of
from agent.system.json_text import fix_surrogates, json_type, parse_json

AUDIO_CONFIG: Mapping[str, int | str] = {
    "sample_rate": 44100,
    "num_channels": 1,
    "sample_width": 2,
    "encoding": "linear_pcm",
    "container": "wav",
}
"""The example of the service's page, and what holds for every field a request leaves out."""

_CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "sample_rate": (8000, 16000, 22050, 24000, 44100, 48000),
    "num_channels": (1, 2),
    "sample_width": (1, 2),
    "encoding": ("linear_pcm", "oggopus", "pcm_mulaw", "pcm_alaw"),
    "container": ("raw", "wav", "mp3", "ogg", "mulaw", "alaw"),
}
_SOUND: Mapping[tuple[str, str], tuple[str, str]] = {
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


def read_audio_config(given: object) -> dict[str, int | str] | str:
    """The five fields in the order of the page, from a mapping or from an object with such attributes, the missing
    ones filled in; or what should be there instead, in words. Never raises. Fields it does not know are left out.
    """
    if given is None:
        return dict(AUDIO_CONFIG)
    if isinstance(given, str | bytes | int | float | list | tuple):
        return f"audio_config to be an object, not {json_type(given)}"
    found: dict[str, int | str] = {}
    for name, default in AUDIO_CONFIG.items():
        value = given.get(name, default) if isinstance(given, Mapping) else getattr(given, name, default)
        if isinstance(value, bool) or not isinstance(value, int | str) or value not in _CHOICES[name]:
            shown = excerpt(value) if isinstance(value, str) else excerpt(str(value)[:40])
            return f"audio_config.{name} to be one of {', '.join(map(str, _CHOICES[name]))}, not {shown}"
        found[name] = value
    pair = (str(found["encoding"]), str(found["container"]))
    if pair not in _SOUND:
        return f"an audio_config whose container holds its encoding, not {pair[0]} in {pair[1]}"
    samples = _SOUND[pair][1]
    if samples == "s16le" and found["sample_width"] != 2:
        return "audio_config.sample_width to be 2 for samples that are not mu-law or A-law"
    if samples != "s16le" and found["sample_rate"] != 8000:
        return f"audio_config.sample_rate to be 8000 for {samples}, not {found['sample_rate']}"
    return found


def encoding_of(audio_config: Mapping[str, int | str]) -> Encoding:
    """What the bytes of the reply to such a request are."""
    container, samples = _SOUND[(str(audio_config["encoding"]), str(audio_config["container"]))]
    return Encoding(container, int(audio_config["sample_rate"]), int(audio_config["num_channels"]), samples)


NAME = "vachana"
PATH = "/api/v1/tts"
SPEED = (0.5, 2.0)

_QUIET_SECONDS = 2.5
_AT_ONCE_SECONDS = 0.05
_REQUESTS = 1000


class Client:
    """Speaks to Vachana. Pieces of text are gathered until the passage is complete, then asked for in one request.

    The ``End`` comes with ``complete``; from a server that sends binary sound only, with a clean close or with a quiet
    period after the last sound. Raises ``ValueError``, one sentence, for a value the service does not know.
    """

    service = NAME
    max_idle_seconds: float | None = None
    is_single_use = True
    """The service's own SDK opens a connection for each request; some servers close after each."""

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
            raise ValueError(f"vachana wants {config}")
        if speed is not None and not SPEED[0] <= speed <= SPEED[1]:
            raise ValueError(f"vachana wants speed to be a number from {SPEED[0]} to {SPEED[1]}, not {speed}")
        self.encoding: Encoding = encoding_of(config)
        self.receive_timeout_seconds: float | None = None
        self._url, self._key = url, api_key
        self._wish: dict[str, object] = {"voice": voice, "language": language, "model": model, "audio_config": config}
        if speed is not None:
            self._wish["speed"] = speed
        self._pieces: list[str] = []
        self._asked = 0
        self._complete = 0
        self._end_sent = False
        self._over = False  # the End, or a fatal Failure, has been given
        self._json = False  # this server speaks JSON: its silence means nothing
        self._sound = False  # sound has come since the last complete

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
                request = {"text": text, **self._wish}
                if isinstance(event, Flush) and event.request_id is not None:
                    request["request_id"] = event.request_id
                messages.append(_dump(request))
                self._asked += 1
            self._end_sent = isinstance(event, End)
        self._set_quiet()
        return messages

    def receive(self, message: Message) -> list[Event]:
        if isinstance(message, bytes):
            events = self._heard(message, message)
        else:
            found = parse_json(message)
            if isinstance(found, str):
                return [self._refuse(message, f"binary sound or a JSON object ({found})")]
            events = self._told(message, found)
        self._set_quiet()
        return events

    def receive_timeout(self) -> list[Event]:
        return [] if self.receive_timeout_seconds is None else self._end()

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._over:
            return []
        waiting = self._asked - self._complete
        if not waiting and not self._pieces:
            return self._end() if self._asked or self._end_sent else []
        # Of several requests only JSON tells which are answered; of binary sound a clean close is all the end there is.
        if code in (1000, 1005) and self._sound and not self._pieces and (waiting == 1 or not self._json):
            return self._end()
        self._over = True
        self.receive_timeout_seconds = None
        came = f"the close code {code}{' ' + excerpt(reason, self._key) if reason else ''}"
        return [Failure(NAME, came, "all the sound of the request before the connection ends", status=code)]

    def _told(self, message: str, found: dict[str, object]) -> list[Event]:
        what = found.get("type")
        if what == "error":
            if self._over:
                return []
            self._over = True
            status = status_of(found)
            came = f"the error {excerpt(message, self._key)}"
            return [Failure(NAME, came, "sound", permanent=is_permanent(status), status=status)]
        if what not in ("start", "audio", "complete"):
            return [self._refuse(message, "a message of the type start, audio, complete or error")]
        self._json = True
        data = found.get("data")
        place = data if isinstance(data, dict) else found
        events: list[Event] = []
        if place.get("audio") is not None:
            sound = decode_base64(place["audio"])
            if isinstance(sound, str):
                events.append(self._refuse(message, f"base64 in data.audio ({sound})"))
            else:
                events += self._heard(message, sound)
        elif what == "audio":
            events.append(self._refuse(message, "base64 in data.audio"))
        if what == "complete" and self._complete < self._asked and not self._over:
            self._complete += 1
            self._sound = False
            events.append(Flush())
            if self._end_sent and self._complete == self._asked:
                events += self._end()
        return events

    def _heard(self, message: Message, sound: bytes) -> list[Event]:
        if not sound:
            return []
        if self._over:
            return [self._refuse(message, "nothing more after the last passage")]
        self._sound = True
        return [Audio(sound)]

    def _set_quiet(self) -> None:
        self.receive_timeout_seconds = None
        if not self._end_sent or self._over:
            return
        if self._complete >= self._asked:
            # Everything had come before the End was sent, so no message will ever bring it.
            self.receive_timeout_seconds = _AT_ONCE_SECONDS
        elif self._sound and not self._json:
            self.receive_timeout_seconds = _QUIET_SECONDS

    def _end(self) -> list[Event]:
        self.receive_timeout_seconds = None
        self._over = True
        return [End()]

    def _refuse(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False)


class Server:
    """Speaks as Vachana does: JSON messages, or with ``binary=True`` the bare chunks of its page.

    A request gives a ``Text`` and a ``Flush`` and sets ``encoding``, ``voice``, ``language``, ``model``, ``speed`` and
    ``audio_config`` for its answer, which is ``send(Audio)``, any number of times, and ``send(Flush)``. One connection
    takes any number of requests; they are answered in their order. A request that cannot be met gives a ``Failure``,
    which ``send`` turns into the service's error message.
    """

    service = NAME

    def __init__(self, api_key: str | None = None, *, binary: bool = False) -> None:
        self._key = api_key
        self._binary = binary
        self.audio_config: dict[str, int | str] = dict(AUDIO_CONFIG)
        self.encoding = encoding_of(self.audio_config)
        self.voice, self.language, self.model = "", "", ""
        self.speed = 1.0
        self._requests: deque[str] = deque()
        self._count = 0
        self._chunk: int | None = None  # counts the messages of the request that is being answered
        self._over = False

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
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
        found = parse_json(message)
        if isinstance(found, str):
            return [self._refuse(message, f"a request as a JSON object ({found})")]
        text = found.get("text")
        if not isinstance(text, str) or not text:
            return [
                self._refuse(message, f"text to be spoken in its field text, not {json_type(text) if text else 'none'}")
            ]
        said: dict[str, str] = {}
        for name in ("voice", "language", "model", "request_id"):
            value = found.get(name)
            if value is not None and not isinstance(value, str):
                return [self._refuse(message, f"{name} to be text, not {json_type(value)}")]
            said[name] = fix_surrogates(value or "")[:200]
        speed = _number(found.get("speed", 1.0))
        if not SPEED[0] <= speed <= SPEED[1]:
            return [self._refuse(message, f"speed to be a number from {SPEED[0]} to {SPEED[1]}")]
        config = read_audio_config(found.get("audio_config"))
        if isinstance(config, str):
            return [self._refuse(message, config)]
        if len(self._requests) >= _REQUESTS:
            return [Failure(NAME, excerpt(message), f"at most {_REQUESTS} requests that wait for their sound")]
        self.audio_config, self.encoding = config, encoding_of(config)
        self.voice, self.language, self.model, self.speed = said["voice"], said["language"], said["model"], speed
        self._count += 1
        request_id = said["request_id"] or f"req_{self._count:012x}"
        self._requests.append(request_id)
        return [Text(fix_surrogates(text), request_id), Flush(request_id)]

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Audio) and event.data:
            if self._binary:
                return [event.data]
            messages = self._start()
            sound = base64.b64encode(event.data).decode("ascii")
            data = {"audio": sound, "chunk_index": self._chunk or 0, "is_final": False}
            self._chunk = (self._chunk or 0) + 1
            return [*messages, _dump({"type": "audio", "data": data})]
        if isinstance(event, Flush):
            messages = [] if self._binary else self._start()
            if not self._binary:
                messages.append(_dump({"type": "complete", "request_id": self._request_id(), "data": None}))
            self._next_request()
            return messages
        if isinstance(event, Failure):
            told: dict[str, object] = {"type": "error", "message": f"{event.received}; expected {event.expected}"}
            if event.status is not None:
                told["status_code"] = event.status
            return [_dump(told)]
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """The client has left; it says no more."""
        if self._over:
            return []
        self._over = True
        return [End()]

    def _start(self) -> list[Message]:
        if self._chunk is not None:
            return []
        self._chunk = 0
        return [_dump({"type": "start", "request_id": self._request_id(), "message": "synthesis started"})]

    def _request_id(self) -> str | None:
        return self._requests[0] if self._requests else None

    def _next_request(self) -> None:
        self._chunk = None
        if self._requests:
            self._requests.popleft()

    def _refuse(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False)


def _number(value: object) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return value if abs(value) < 1e6 else math.nan


def _dump(told: Mapping[str, object]) -> str:
    return json.dumps(told, ensure_ascii=False)


@dataclass(frozen=True)
class AudioSettings:
    """The audio format that Vachana is asked for."""

    sample_rate: int = key(44100, "sample rate in Hz", choices=(8000, 16000, 22050, 24000, 44100, 48000))
    num_channels: int = key(1, "number of channels", choices=(1, 2))
    sample_width: int = key(2, "bytes of a sample", choices=(1, 2))
    encoding: str = key(
        "linear_pcm", "encoding of the samples", choices=("linear_pcm", "oggopus", "pcm_mulaw", "pcm_alaw")
    )
    container: str = key("wav", "file format of the samples", choices=("raw", "wav", "mp3", "ogg", "mulaw", "alaw"))


@dataclass(frozen=True)
class Settings:
    """The service Vachana."""

    url: str = key("wss://api.vachana.ai/api/v1/tts", "WebSocket URL; change it for a server of your own")
    api_key: Secret = key(lambda: Secret(credential="vachana"), "pays for the speech; where the API key is stored")
    voice: str = key("Sia", "name of the voice")
    language: str = key("IND-IN", "language of the text, which decides the pronunciation")
    model: str = key("vachana-voice-v1", "name of the speech model")
    speed: float | None = key(None, "speed of the voice; null: not sent", low=0.5, high=2.0)
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
        what = f"{audio.encoding} does not come in the container {audio.container}"
        yield Finding("audio_config.container", f"{what}, expected one of {', '.join(containers)}", None, cause)
    if audio.encoding in ("pcm_mulaw", "pcm_alaw") and audio.sample_rate != 8000:
        what = f"{audio.encoding} comes at 8000 Hz only, not at {audio.sample_rate}, expected 8000"
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
        audio_config=asdict(settings.audio_config),
    )


def _server(api_key: str | None, options: Mapping[str, Any]) -> ServerSide:
    is_binary = bool(options.get("--vachana-binary"))
    return ServerSide(lambda: Server(api_key, binary=is_binary), wav_layout=None)


SERVICE = TtsService(
    name="vachana",
    title="Vachana",
    settings=Settings,
    client=_client,
    check=_check,
    server=_server,
    server_options=(ServerOption("--vachana-binary", "send bare binary chunks with vachana, as its first page says"),),
    paths=(PATH, f"{PATH}/"),
    local_settings=lambda base: {"url": f"{base}{PATH}"},
)

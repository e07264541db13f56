"""PlayAI's second step, both halves: one JSON request for each passage, answered by start, binary sound and end.

The first step, which gets the address, is ``playai_authorization``. Source: PlayAI's WebSocket document, and what its
clients and its own package were seen to do.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from agent.config.errors import Finding
from agent.config.fields import key
from agent.config.rules import header_problem
from agent.config.secrets import Secret
from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Handshake,
    HttpResponse,
    Message,
    ServerOption,
    ServerSide,
    Text,
    TtsService,
)
from agent.services.protocols.handshake import parse_target, status_of
from agent.services.protocols.parsing import excerpt
from agent.services.protocols.playai_auth import (
    AUTHORIZATION_PATHS,
    MODEL_PATHS,
    NAME,
    Authorization,
    AuthorizationServer,
    Tokens,
)
from agent.system.hosts import find_url_problem, is_private_host
from agent.system.json_text import fix_surrogates, json_type, parse_json

FORMATS = {
    "mp3": ("mp3", "s16le"),
    "wav": ("wav", "s16le"),
    "raw": ("raw", "s16le"),
    "pcm": ("raw", "s16le"),
    "mulaw": ("raw", "mulaw"),
    "ogg": ("opus", "s16le"),
    "flac": ("flac", "s16le"),
}
"""Container and samples of each ``output_format``; the service's own choice is mp3."""

_SAMPLE_RATE = 24000
_ID_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What one request asks for. ``request_id`` is echoed as it came."""

    text: str
    voice: str
    encoding: Encoding
    request_id: str | int | None
    speed: float
    temperature: float | None
    language: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken, and its id, so that the client can tell which."""

    failure: Failure
    request_id: str | int | None = None


def encoding_of(output_format: str, sample_rate: int | None) -> Encoding:
    """How the sound of a request comes; ``output_format`` is one of ``FORMATS``, the rate 24000 Hz unless asked for."""
    container, samples = FORMATS[output_format]
    return Encoding(container, sample_rate or _SAMPLE_RATE, samples=samples)


def read_request(message: Message) -> Request | Refusal:
    """The request in ``message``, or why there is none. Fields that are not known are ignored. Never raises."""
    if isinstance(message, bytes):
        return _refuse(message, None, "a JSON text message")
    fields = parse_json(message)
    if isinstance(fields, str):
        return _refuse(message, None, f"a JSON object; {fields}")
    request_id = fields.get("request_id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        return _refuse(message, None, f"text in the field request_id, not {json_type(request_id)}")
    if len(str(request_id)) > _ID_CHARACTERS:
        return _refuse(message, None, f"a request_id of at most {_ID_CHARACTERS} characters")
    text = _text(fields.get("text"))
    voice = fields.get("voice")
    output_format = "mp3" if fields.get("output_format") is None else fields["output_format"]
    rate = fields.get("sample_rate")
    language = fields.get("language")
    if text is None:
        found = json_type(fields.get("text"))
        return _refuse(message, request_id, f"text or a list of texts in the field text, not {found}")
    if not isinstance(voice, str):
        return _refuse(message, request_id, f"text in the field voice, not {json_type(voice)}")
    if not isinstance(output_format, str) or output_format not in FORMATS:
        return _refuse(message, request_id, f"an output_format out of {', '.join(FORMATS)}")
    if rate is not None and (not isinstance(rate, int) or not 8000 <= rate <= 48000):
        return _refuse(message, request_id, "a sample_rate of 8000 to 48000")
    speed = _number(fields, "speed", 1.0)
    if speed is None or not 0.5 <= speed <= 2:
        return _refuse(message, request_id, "a speed of 0.5 to 2")
    # The document's temperature ends at 1, that of the service's own package at 2.
    temperature = _number(fields, "temperature", 0.0)
    if temperature is None or not 0 <= temperature <= 2:
        return _refuse(message, request_id, "a temperature of 0 to 1")
    return Request(
        text,
        voice,
        encoding_of(output_format, rate),
        request_id,
        speed,
        temperature if fields.get("temperature") is not None else None,
        language if isinstance(language, str) else None,
    )


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return fix_surrogates(value)
    if isinstance(value, list) and all(isinstance(piece, str) for piece in value):
        return fix_surrogates(" ".join(value))
    return None


def _number(fields: Mapping[str, object], name: str, default: float) -> float | None:
    """The number in a field, ``default`` where it is missing or null, ``None`` where it is something else."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        return None
    return float(value)


def _refuse(message: Message, request_id: str | int | None, expected: str) -> Refusal:
    return Refusal(Failure(NAME, excerpt(message), expected, fatal=False, status=400), request_id)


# An address and a connection last an hour; a standby is renewed while there is time left to speak a passage.
_SILENT_SECONDS = 3300.0
_STALL_SECONDS = 10.0
_AT_ONCE_SECONDS = 0.05
_OPEN_REQUESTS = 64
_PERMANENT_STATUSES = (402, 404, 422)  # not 401 and 403: in the middle of a session they mean a token grown old
_EXPECTED = "start, binary sound and end of each request, in order"


class Client:
    """Speaks over one granted address: text is collected until its ``Flush``, then sent as one request.

    A passage of nothing but white space is not sent, and no ``Flush`` comes back for it. ``End`` sends no mark of its
    own, only what text is left; if nothing is open then, ``quiet_seconds`` is next to nothing and ``quiet()`` gives the
    ``End``. ``url``: the address as granted; it goes out as it is and never shows. ``request_ids`` gives an id that is
    new with every call. Raises ``ValueError`` for a value out of its range.
    """

    service = NAME
    max_idle_seconds: float | None = _SILENT_SECONDS
    is_single_use = False

    def __init__(
        self,
        url: str,
        voice: str,
        output_format: str = "wav",
        sample_rate: int | None = None,
        speed: float = 1.0,
        temperature: float | None = None,
        model: str | None = None,
        request_ids: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        if output_format not in FORMATS:
            raise ValueError(f"playai's output_format must be one of {', '.join(FORMATS)}, not {output_format!r}")
        if sample_rate is not None and not 8000 <= sample_rate <= 48000:
            raise ValueError(f"playai's sample_rate must be 8000 to 48000 Hz, not {sample_rate!r}")
        if not 0.5 <= speed <= 2:
            raise ValueError(f"playai's speed must be 0.5 to 2, not {speed!r}")
        if temperature is not None and not 0 <= temperature <= 1:
            raise ValueError(f"playai's temperature must be 0 to 1, not {temperature!r}")
        self.encoding = encoding_of(output_format, sample_rate)
        self._url = url
        # An echoed address must not reach a log: its token is blotted out, as it is written and as it is meant.
        written = (field.partition("=")[2] for field in urlsplit(url).query.split("&"))
        self._secrets = [form for value in written if len(value) >= 8 for form in (value, unquote(value))]
        self._options: dict[str, object] = {
            "voice": fix_surrogates(voice),
            "output_format": output_format,
            "speed": speed,
        }
        if temperature is not None:
            self._options["temperature"] = temperature
        if sample_rate is not None:
            self._options["sample_rate"] = sample_rate
        if model is not None:
            self._options["voice_engine"] = model
        self._request_ids = request_ids
        self._pieces: list[str] = []
        self._open: deque[str] = deque()
        self._started = False  # the first of the open requests has begun to sound
        self._strange: object = None  # what stands in a list of one: the id of an answer that nobody asked for
        self._ending = False
        self._over = False  # an End or a fatal Failure has been given: nothing more is expected

    @property
    def receive_timeout_seconds(self) -> float | None:
        """10 s while a request is open; next to nothing when all has come and only the ``End`` is left to give."""
        if self._over:
            return None
        if self._open:
            return _STALL_SECONDS
        return _AT_ONCE_SECONDS if self._ending else None

    def handshake(self) -> Handshake:
        """The granted address, as it is; it needs no header."""
        return Handshake(self._url)

    def send(self, event: Event) -> list[Message]:
        """The request of a passage at its ``Flush``, or at the ``End`` if there is text without one."""
        if self._ending or self._over:
            return []
        if isinstance(event, Text):
            self._pieces.append(event.text)
            return []
        if isinstance(event, End):
            self._ending = True
        elif not isinstance(event, Flush):
            return []
        text, self._pieces = fix_surrogates("".join(self._pieces)), []
        if not text.strip():
            return []
        request_id = self._request_ids()
        self._open.append(request_id)
        return [json.dumps({"text": text, **self._options, "request_id": request_id})]

    def receive(self, message: Message) -> list[Event]:
        if self._over:
            return [self._pass_over(message, "nothing, for all that was asked for has been answered")]
        if isinstance(message, bytes):
            return self._sound(message)
        answer = parse_json(message)
        if isinstance(answer, str):
            return [self._pass_over(message, f"a JSON message; {answer}")]
        kind, status = answer.get("type"), answer.get("status")
        refused = isinstance(status, int) and status >= 400
        if kind == "error" or refused or (answer.get("error") and kind not in ("start", "end")):
            return [self._error(message, answer)]
        if kind == "start":
            return self._start(message, answer.get("request_id"))
        if kind == "end":
            return self._end(message, answer.get("request_id"))
        return [self._pass_over(message, _EXPECTED)]

    def receive_timeout(self) -> list[Event]:
        """The ``End`` where nothing is open any more; else the service has stalled and the session is over."""
        if self._over or not (self._open or self._ending):
            return []
        if not self._open:
            return self._finish()
        return [self._fatal("nothing for 10 s in the middle of a passage", "the rest of its sound, and its end")]

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """A close before the end of what was asked for cuts it short, however politely it is done."""
        unsent = any(piece.strip() for piece in self._pieces)
        if self._over or not (self._open or unsent or self._ending):
            return []
        if not self._open and self._ending:
            return self._finish()
        said = f", saying {self._quote(reason)}" if reason else ""
        return [self._fatal(f"the end of the connection ({code}{said}) in the middle of a passage", _EXPECTED, code)]

    def _sound(self, message: bytes) -> list[Event]:
        if self._strange is not None:
            return [self._pass_over(message, "sound of a request of this session")]
        if not self._started:
            return [self._pass_over(message, "sound between the start and the end of a request only")]
        return [Audio(message, request_id=self._open[0])] if message else []

    def _start(self, message: str, request_id: object) -> list[Event]:
        if request_id not in self._open:
            self._strange = [request_id]
            return [self._pass_over(message, "the start of a request of this session")]
        if self._started or request_id != self._open[0]:
            return [self._fatal(self._quote(message), "the end of the request before; a passage is missing")]
        self._strange = None
        self._started = True
        return []

    def _end(self, message: str, request_id: object) -> list[Event]:
        if request_id not in self._open:
            if self._strange == [request_id]:
                self._strange = None
            return [self._pass_over(message, "the end of a request of this session")]
        if not self._started or request_id != self._open[0]:
            return [self._fatal(self._quote(message), "the start of that request before its end")]
        self._strange = None
        self._started = False
        ended: list[Event] = [Flush(self._open.popleft())]
        return ended + (self._finish() if self._ending and not self._open else [])

    def _error(self, message: str, answer: dict[str, object]) -> Failure:
        status = status_of(answer)
        asked = answer.get("retry_after", answer.get("retry_after_seconds"))
        patience = min(float(asked), 86400.0) if isinstance(asked, int | float) and 0 <= asked < 1e9 else None
        failure = self._fatal(self._quote(message), _EXPECTED, status)
        return replace(failure, permanent=status in _PERMANENT_STATUSES, retry_after_seconds=patience)

    def _finish(self) -> list[Event]:
        self._over = True
        return [End()]

    def _fatal(self, came: str, expected: str, status: int | None = None) -> Failure:
        self._over = True
        self._open.clear()
        return Failure(NAME, came[:200], expected, status=status)

    def _pass_over(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, self._quote(message), expected, fatal=False)

    def _quote(self, message: Message) -> str:
        if isinstance(message, str):
            for secret in self._secrets:
                message = message.replace(secret, "***")
        return excerpt(message)


class Server:
    """Answers requests in the order in which they came.

    ``receive`` gives ``Text`` and ``Flush`` for a request; from then on ``encoding``, ``voice``, ``speed``,
    ``temperature`` and ``language`` are those of that request, so take them down before the next ``receive``.
    ``send(Audio)`` and ``send(Flush)`` belong to the oldest request that is not finished. A refused request gives a
    ``Failure`` that is not fatal; hand it to ``send`` and the client is told. ``tokens``: ``None`` lets anybody in.
    """

    service = NAME

    def __init__(self, tokens: Tokens | None = None) -> None:
        self.encoding = Encoding("mp3", 24000)
        self.model = "Play3.0-mini"
        self.voice = ""
        self.speed = 1.0
        self.temperature: float | None = None
        self.language: str | None = None
        self._tokens = tokens
        self._open: deque[str | int | None] = deque()
        self._started = False
        self._refused: Refusal | None = None
        self._gone = False

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """404 for another path, 401 without a token that is still good."""
        target = parse_target(path)
        models = {where: model for model, where in MODEL_PATHS.items()}
        if target is None or target[0] not in models:
            return Failure(
                NAME, "an upgrade on another path", "an address of its authorisation", permanent=True, status=404
            )
        if self._tokens is not None and not self._tokens.accepts(target[1].get("fal_jwt_token", "")):
            return Failure(
                NAME,
                "an upgrade without a token that is still good",
                "fal_jwt_token in the query",
                permanent=True,
                status=401,
            )
        self.model = models[target[0]]
        return None

    def receive(self, message: Message) -> list[Event]:
        request = read_request(message)
        if isinstance(request, Request) and len(self._open) >= _OPEN_REQUESTS:
            failure = Failure(NAME, "too many requests at once", "fewer", fatal=False, status=429)
            request = Refusal(failure, request.request_id)
        if isinstance(request, Refusal):
            self._refused = request
            return [request.failure]
        self.encoding = request.encoding
        self.voice, self.speed = request.voice, request.speed
        self.temperature, self.language = request.temperature, request.language
        self._open.append(request.request_id)
        name = None if request.request_id is None else fix_surrogates(str(request.request_id))
        return [Text(request.text, name), Flush(name)]

    def send(self, event: Event) -> list[Message]:
        """``start`` comes before the first sound of a request, or before its ``end`` where it has none. ``End`` has no
        mark in this protocol. A fatal ``Failure`` drops every request that is open: close after it."""
        if isinstance(event, Failure):
            return [self._error(event)]
        if not self._open or not isinstance(event, Audio | Flush):
            return []
        messages: list[Message] = []
        if not self._started and (isinstance(event, Flush) or event.data):
            self._started = True
            messages.append(json.dumps({"type": "start", "request_id": self._open[0]}))
        if isinstance(event, Flush):
            self._started = False
            messages.append(json.dumps({"type": "end", "request_id": self._open.popleft()}))
        elif event.data:
            messages.append(event.data)
        return messages

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """The client has gone, and with it whatever it wanted to hear."""
        if self._gone:
            return []
        self._gone = True
        self._open.clear()
        return [End()]

    def _error(self, failure: Failure) -> str:
        request_id = self._open[0] if self._open else None
        if self._refused is not None and self._refused.failure is failure:
            request_id = self._refused.request_id
        if failure.fatal:
            self._open.clear()
            self._started = False
        message: dict[str, object] = {
            "type": "error",
            "request_id": request_id,
            "status": failure.status or 500,
            "message": f"got {failure.received}; expected {failure.expected}",
        }
        if failure.retry_after_seconds is not None:
            message["retry_after"] = failure.retry_after_seconds
        return json.dumps(message)


@dataclass(frozen=True)
class Settings:
    """The service PlayAI."""

    auth_url: str = key("https://api.play.ai/api/v1/tts/websocket-auth", "HTTP URL that returns the WebSocket URL")
    api_key: Secret = key(lambda: Secret(credential="playai"), "pays for the speech; where the API key is stored")
    user_id: str = key("", "user ID of the account, sent as X-User-Id")
    model: str = key("Play3.0-mini", "name of the speech model; it selects one of the returned URLs")
    voice: str = key("", "voice ID or URL")
    output_format: str = key(
        "wav",
        "audio format of the speech; ogg and mp3 need less bandwidth",
        choices=("mp3", "wav", "raw", "pcm", "mulaw", "ogg"),
    )
    sample_rate: int = key(24000, "sample rate of the speech in Hz", low=8000, high=48000)
    speed: float = key(1.0, "speed of the voice; 1 is natural", low=0.5, high=2.0)
    temperature: float | None = key(None, "higher sounds livelier and less steady; null: not sent", low=0.0, high=1.0)


_HTTP_SCHEMES = ("https", "http")


def _check(settings: Settings) -> Iterator[Finding]:
    if settings.output_format == "mulaw" and settings.sample_rate != 8000:
        what = f"mulaw comes at 8000 Hz only, not at {settings.sample_rate}, expected 8000"
        yield Finding("sample_rate", what, "8000", "output_format")
    if problem := header_problem(settings.user_id, may_be_empty=True):
        yield Finding("user_id", problem)
    if not settings.model:
        yield Finding("model", "the model is empty, expected for example Play3.0-mini", "Play3.0-mini")


def _check_used(settings: Settings) -> Iterator[Finding]:
    if settings.user_id or find_url_problem(settings.auth_url, _HTTP_SCHEMES) is not None:
        return
    if not is_private_host(urlsplit(settings.auth_url).hostname or ""):
        yield Finding("user_id", "the service is used and the user ID is missing, expected your user ID")


def _client(settings: Settings, url: str, api_key: str | None) -> Client:
    return Client(
        url=url,
        voice=settings.voice,
        output_format=settings.output_format,
        sample_rate=settings.sample_rate,
        speed=settings.speed,
        temperature=settings.temperature,
    )


def _authorize(settings: Settings, api_key: str | None) -> Authorization:
    return Authorization(settings.auth_url, api_key, settings.user_id, settings.model)


def _server(api_key: str | None, options: Mapping[str, Any]) -> ServerSide:
    tokens = Tokens(time.time)
    user_id: str | None = options.get("--user-id-playai")

    def respond(base_url: str, method: str, target: str, headers: Mapping[str, str]) -> HttpResponse:
        server = AuthorizationServer(base_url, tokens, api_key=api_key, user_id=user_id)
        return server.receive(method, target, headers)

    return ServerSide(lambda: Server(tokens), respond)


def _local_settings(base: str) -> dict[str, Any]:
    return {"auth_url": f"http{base.removeprefix('ws')}/api/v1/tts/websocket-auth"}


SERVICE = TtsService(
    name=NAME,
    title="PlayAI",
    settings=Settings,
    client=_client,
    check=_check,
    check_used=_check_used,
    server=_server,
    server_options=(ServerOption("--user-id-playai", "require this user ID from clients of playai", metavar="ID"),),
    paths=tuple(MODEL_PATHS.values()),
    http_paths=AUTHORIZATION_PATHS,
    url_key="auth_url",
    url_schemes=_HTTP_SCHEMES,
    authorize=_authorize,
    local_settings=_local_settings,
)

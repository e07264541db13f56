"""Implements PlayAI: one JSON request for each passage, answered by ``start``, binary audio and ``end``.

The service issues the WebSocket URL over HTTP; see ``playai_auth``. Sources: PlayAI's WebSocket page; pyht 0.1.14 and
pipecat, measured on the wire. The service was shut down on 31 December 2025; compatible servers remain.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from agent.config.errors import Finding
from agent.config.fields import key, section
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
from agent.services.protocols.handshake import describe_close, parse_target, status_of
from agent.services.protocols.parsing import excerpt, is_wav_header
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
from agent.system.named_tuple import NamedTuple

FORMATS = {
    "mp3": ("mp3", "s16le"),
    "wav": ("wav", "s16le"),
    "raw": ("raw", "s16le"),
    "pcm": ("raw", "s16le"),
    "mulaw": ("raw", "mulaw"),
    "ogg": ("opus", "s16le"),
}
"""Container and samples of each ``output_format``; the default of the service is mp3. The service also offers flac,
which this package does not support."""

_DEFAULT_SAMPLE_RATE = 24000
_MAX_ID_CHARACTERS = 256
# URL and connection are valid for 3600 s (PlayAI's page). A standby replaces the connection early enough for a passage.
_MAX_IDLE_SECONDS = 3300.0
_STALL_SECONDS = 10.0
_IMMEDIATE_SECONDS = 0.05
_MAX_REQUESTS = 1000
_PERMANENT_STATUSES = (402, 404, 422)  # not 401 and 403: during a session they mean an expired token
_EXPECTED = "start, binary audio and end of each request, in order"


class Request(NamedTuple):
    """The parameters of a request. Immutable. The server repeats ``request_id`` unchanged."""

    text: str
    voice: str
    encoding: Encoding
    request_id: str | int | None
    speed: float
    temperature: float | None
    language: str | None


class Refusal(NamedTuple):
    """The failure for a refused request, and the ID of the request. Immutable."""

    failure: Failure
    request_id: str | int | None = None


def encoding_of(output_format: str, sample_rate: int | None) -> Encoding:
    """Return the encoding of the audio; ``sample_rate`` is in Hz, ``None`` means 24000."""
    container, samples = FORMATS[output_format]
    return Encoding(container, sample_rate or _DEFAULT_SAMPLE_RATE, samples=samples)


def read_request(message: Message) -> Request | Refusal:
    """Decode and check a request. Unknown fields are ignored. Never raises."""
    if isinstance(message, bytes):
        return _refuse(message, None, "a JSON text message")
    fields = parse_json(message)
    if isinstance(fields, str):
        return _refuse(message, None, f"a JSON object; {fields}")
    request_id = fields.get("request_id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        return _refuse(message, None, f"text in the field request_id, not {json_type(request_id)}")
    if len(str(request_id)) > _MAX_ID_CHARACTERS:
        return _refuse(message, None, f"a request_id of at most {_MAX_ID_CHARACTERS} characters")
    text = _text(fields.get("text"))
    voice = fields.get("voice")
    output_format = "mp3" if fields.get("output_format") is None else fields["output_format"]
    rate = fields.get("sample_rate")
    language = fields.get("language")
    if text is None:
        received = json_type(fields.get("text"))
        return _refuse(message, request_id, f"text or a list of texts in the field text, not {received}")
    if not isinstance(voice, str):
        return _refuse(message, request_id, f"text in the field voice, not {json_type(voice)}")
    if not isinstance(output_format, str) or output_format not in FORMATS:
        return _refuse(message, request_id, f"an output_format out of {', '.join(FORMATS)}")
    if rate is not None and (not isinstance(rate, int) or not 8000 <= rate <= 48000):
        return _refuse(message, request_id, "a sample_rate of 8000 to 48000")
    speed = _number(fields, "speed", 1.0)
    if speed is None or not 0.5 <= speed <= 2:
        return _refuse(message, request_id, "a speed of 0.5 to 2")
    # The highest temperature is 1 on the page and 2 in pyht.
    temperature = _number(fields, "temperature", 0.0)
    if temperature is None or not 0 <= temperature <= 2:
        return _refuse(message, request_id, "a temperature of 0 to 2")
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
    """Return the number in a field; ``default`` if the field is missing or null, ``None`` if it is not a number."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        return None
    return float(value)


def _refuse(message: Message, request_id: str | int | None, expected: str) -> Refusal:
    return Refusal(Failure(NAME, excerpt(message), expected, fatal=False, status=400), request_id)


class Client:
    """The client codec. It collects the text of a passage until the ``Flush`` and then sends one request.

    A passage of white space only is not sent, and no ``Flush`` is returned for it. The protocol has no end mark:
    ``send(End)`` sends the remaining text. The codec returns ``End`` after the response to the last request; if no
    request is open, ``receive_timeout`` returns it after 0.05 s. A response without a ``request_id`` belongs to the
    oldest open request. Not thread-safe; owned by the thread that owns the connection.

    Args:
        url: The issued URL, used unchanged. It contains a token, which never appears in events.
        voice: The voice ID or URL.
        output_format: One of ``FORMATS``.
        sample_rate: In Hz, 8000 to 48000; ``None``: not sent.
        speed: 0.5 to 2.
        temperature: 0 to 1; ``None``: not sent.
        model: The ``voice_engine``; ``None``: not sent.
        request_ids: Returns a new ID with every call.

    Raises:
        ValueError: A value is out of range.
    """

    service = NAME
    max_idle_seconds: float | None = _MAX_IDLE_SECONDS
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
        # The peer may repeat the URL, and its token must not reach a log: redact it percent-encoded and decoded.
        values = (field.partition("=")[2] for field in urlsplit(url).query.split("&"))
        self._secrets = [form for value in values if len(value) >= 8 for form in (value, unquote(value))]
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
        self._is_started = False  # start arrived for the first open request
        self._foreign_id: object = None  # a list with the ID (any JSON value) of the current foreign response
        self._has_audio = False
        self._has_answered = False  # the service has used an ID of this session
        self._held_error: Failure | None = None  # an error with an unknown ID that arrived before the first such ID
        self._end_sent = False
        self._is_over = False  # End or a fatal Failure was returned

    @property
    def receive_timeout_seconds(self) -> float | None:
        """10 s while a request is open, but only after the first audio; 0.05 s if only the ``End`` event is missing."""
        if self._is_over:
            return None
        if self._open:
            return _STALL_SECONDS if self._has_audio else None
        return _IMMEDIATE_SECONDS if self._end_sent else None

    def handshake(self) -> Handshake:
        """Return the issued URL. No header is necessary, because the URL contains the token."""
        return Handshake(self._url)

    def send(self, event: Event) -> list[Message]:
        """Return the request for a passage at its ``Flush``, or at the ``End`` if text is left."""
        if self._end_sent or self._is_over:
            return []
        if isinstance(event, Text):
            self._pieces.append(event.text)
            return []
        if isinstance(event, End):
            self._end_sent = True
        elif not isinstance(event, Flush):
            return []
        text, self._pieces = fix_surrogates("".join(self._pieces)), []
        if not text.strip():
            return []
        request_id = self._request_ids()
        self._open.append(request_id)
        return [json.dumps({"text": text, **self._options, "request_id": request_id})]

    def receive(self, message: Message) -> list[Event]:
        if self._is_over:
            return [self._ignore(message, "nothing after the last response")]
        if isinstance(message, bytes):
            return self._audio(message)
        answer = parse_json(message)
        if isinstance(answer, str):
            return [self._ignore(message, f"a JSON message; {answer}")]
        kind, status = answer.get("type"), answer.get("status")
        is_refusal = isinstance(status, int) and status >= 400
        if kind == "error" or is_refusal or (answer.get("error") and kind not in ("start", "end")):
            failure = self._error(message, answer)
            if answer.get("request_id") not in (None, "", *self._open):
                # The service may have created this ID for the error, unless it has already used an ID of this session.
                self._held_error = None if self._has_answered else failure
                if self._foreign_id == [answer.get("request_id")]:
                    self._foreign_id = None
                return [self._ignore(message, "an error of a request of this session", is_foreign=True)]
            return [self._fail(failure)]
        if kind == "start":
            return self._start(message, answer.get("request_id"))
        if kind == "end":
            return self._end(message, answer.get("request_id"))
        return [self._ignore(message, _EXPECTED, is_unknown=isinstance(kind, str))]

    def receive_timeout(self) -> list[Event]:
        """Return a held error if there is one, ``End`` if no request is open, else a fatal failure for the stall."""
        if self._held_error is not None and not self._is_over:
            return [self._fail(self._held_error)]
        if self.receive_timeout_seconds is None:
            return []
        if not self._open:
            return self._finish()
        return [self._fatal("nothing for 10 s inside a passage", "the rest of its audio, and its end")]

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return a fatal failure if the last ``end`` is missing, for every close code: the audio is incomplete.

        (pyht accepts a normal close inside an utterance and loses the rest of the audio without an error.)
        """
        unsent = any(piece.strip() for piece in self._pieces)
        if self._is_over or not (self._open or unsent or self._end_sent):
            return []
        if not self._open and self._end_sent:
            return self._finish()
        if self._held_error is not None:
            return [self._fail(self._held_error)]
        received = describe_close(code, self._redact(reason))
        failure = Failure(
            NAME, f"{received} inside a passage"[:200], _EXPECTED, status=code, is_end_missing=self._is_started
        )
        return [self._fail(failure)]

    def _audio(self, message: bytes) -> list[Event]:
        if self._foreign_id is not None:
            return [self._ignore(message, "audio of a request of this session", is_foreign=True)]
        if not self._is_started:
            return [self._ignore(message, "audio between the start and the end of a request only")]
        if not message:
            return []
        self._has_audio = self._has_audio or not is_wav_header(message)
        return [Audio(message, request_id=self._open[0])]

    def _start(self, message: str, request_id: object) -> list[Event]:
        if request_id in (None, "") and self._open:
            request_id = self._open[0]  # the service answers in order
        if request_id not in self._open:
            self._foreign_id = [request_id]
            return [self._ignore(message, "the start of a request of this session", is_foreign=True)]
        if self._is_started or request_id != self._open[0]:
            return [self._fatal(self._quote(message), "the end of the previous request; a passage is missing")]
        self._foreign_id = self._held_error = None
        self._is_started = self._has_answered = True
        return []

    def _end(self, message: str, request_id: object) -> list[Event]:
        if request_id in (None, "") and self._is_started and self._foreign_id is None:
            request_id = self._open[0]
        if request_id not in self._open:
            if self._foreign_id == [request_id]:
                self._foreign_id = None
            return [self._ignore(message, "the end of a request of this session", is_foreign=True)]
        if not self._is_started or request_id != self._open[0]:
            return [self._fatal(self._quote(message), "the start of that request before its end")]
        self._foreign_id = None
        self._is_started = False
        events: list[Event] = [Flush(self._open.popleft())]
        return events + (self._finish() if self._end_sent and not self._open else [])

    def _error(self, message: str, answer: dict[str, object]) -> Failure:
        status = status_of(answer)
        delay = answer.get("retry_after", answer.get("retry_after_seconds"))
        retry_after = min(float(delay), 86400.0) if isinstance(delay, int | float) and 0 <= delay < 1e9 else None
        return Failure(
            NAME,
            self._quote(message)[:200],
            _EXPECTED,
            permanent=status in _PERMANENT_STATUSES,
            status=status,
            retry_after_seconds=retry_after,
        )

    def _finish(self) -> list[Event]:
        self._is_over = True
        return [End()]

    def _fatal(self, received: str, expected: str, status: int | None = None) -> Failure:
        return self._fail(Failure(NAME, received[:200], expected, status=status))

    def _fail(self, failure: Failure) -> Failure:
        self._is_over = True
        self._open.clear()
        return failure

    def _ignore(
        self, message: Message, expected: str, *, is_foreign: bool = False, is_unknown: bool = False
    ) -> Failure:
        received = self._quote(message)
        return Failure(NAME, received, expected, fatal=False, is_foreign=is_foreign, is_unknown=is_unknown)

    def _quote(self, message: Message) -> str:
        return excerpt(self._redact(message) if isinstance(message, str) else message)

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class Server:
    """The server codec, which answers requests in order.

    For a request, ``receive`` returns ``Text`` and ``Flush`` and sets the attributes below; read them before the next
    ``receive``. ``send(Audio)`` and ``send(Flush)`` belong to the oldest open request. For a refused request,
    ``receive`` returns a ``Failure`` that is not fatal; pass it to ``send``, which encodes the error message. Not
    thread-safe; owned by the connection's thread.

    Args:
        tokens: Checks the token of the URL; ``None``: no token is required.

    Attributes:
        model: The model of the URL's path.
        encoding, voice, speed, temperature, language: The values of the last request.
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
        self._is_started = False
        self._refusal: Refusal | None = None
        self._is_over = False

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Check the path and the token of the URL."""
        target = parse_target(path)
        models = {place: model for model, place in MODEL_PATHS.items()}
        if target is None or target[0] not in models:
            return Failure(NAME, "a handshake on another path", "an issued URL", permanent=True, status=404)
        if self._tokens is not None and not self._tokens.accepts(target[1].get("fal_jwt_token", "")):
            return Failure(
                NAME,
                "a handshake without a valid token",
                "fal_jwt_token in the query",
                permanent=True,
                status=401,
            )
        self.model = models[target[0]]
        return None

    def receive(self, message: Message) -> list[Event]:
        request = read_request(message)
        if isinstance(request, Request) and len(self._open) >= _MAX_REQUESTS:
            failure = Failure(NAME, "too many requests at once", "fewer", fatal=False, status=429)
            request = Refusal(failure, request.request_id)
        if isinstance(request, Refusal):
            self._refusal = request
            return [request.failure]
        self.encoding = request.encoding
        self.voice, self.speed = request.voice, request.speed
        self.temperature, self.language = request.temperature, request.language
        self._open.append(request.request_id)
        name = None if request.request_id is None else fix_surrogates(str(request.request_id))
        return [Text(request.text, name), Flush(name)]

    def send(self, event: Event) -> list[Message]:
        """Encode an event; ``End`` encodes to nothing, because the protocol has no end mark.

        ``start`` is sent before the first audio of a request, or before ``end`` if there is no audio. A fatal
        ``Failure`` discards all open requests; close the connection after it.
        """
        if isinstance(event, Failure):
            return [self._error(event)]
        if not self._open or not isinstance(event, Audio | Flush):
            return []
        messages: list[Message] = []
        if not self._is_started and (isinstance(event, Flush) or event.data):
            self._is_started = True
            messages.append(json.dumps({"type": "start", "request_id": self._open[0]}))
        if isinstance(event, Flush):
            self._is_started = False
            messages.append(json.dumps({"type": "end", "request_id": self._open.popleft()}))
        elif event.data:
            messages.append(event.data)
        return messages

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return ``End``: the client sends nothing more."""
        if self._is_over:
            return []
        self._is_over = True
        self._open.clear()
        return [End()]

    def _error(self, failure: Failure) -> str:
        request_id = self._open[0] if self._open else None
        if self._refusal is not None and self._refusal.failure is failure:
            request_id = self._refusal.request_id
        if failure.fatal:
            self._open.clear()
            self._is_started = False
        message: dict[str, object] = {
            "type": "error",
            "request_id": request_id,
            "status": failure.status or 500,
            "message": f"got {failure.received}; expected {failure.expected}",
        }
        if failure.retry_after_seconds is not None:
            message["retry_after"] = failure.retry_after_seconds
        return json.dumps(message)


@section
class Settings(NamedTuple):
    """The service PlayAI."""

    auth_url: str = key("https://api.play.ai/api/v1/tts/websocket-auth", "HTTP URL that returns the WebSocket URL")
    api_key: Secret = key(
        lambda: Secret(credential="playai"), "where the API key is stored; its account pays for the speech"
    )
    user_id: str = key("", "user ID of the account, without which the service refuses the key")
    model: str = key("Play3.0-mini", "name of the speech model; it selects one of the returned URLs")
    voice: str = key("", "voice ID or URL")
    output_format: str = key(
        "wav",
        "audio format of the speech; ogg and mp3 need less bandwidth",
        choices=("mp3", "wav", "raw", "pcm", "mulaw", "ogg"),
    )
    sample_rate: int = key(
        24000, "sample rate of the speech in Hz; higher sounds clearer and needs more bandwidth", low=8000, high=48000
    )
    speed: float = key(1.0, "speed of the voice; 2 is twice as fast", low=0.5, high=2.0)
    temperature: float | None = key(None, "higher is livelier and less stable; null: not sent", low=0.0, high=1.0)


_HTTP_SCHEMES = ("https", "http")


def _check(settings: Settings) -> Iterator[Finding]:
    if settings.output_format == "mulaw" and settings.sample_rate != 8000:
        what = f"mulaw is available at 8000 Hz only, not at {settings.sample_rate}, expected 8000"
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

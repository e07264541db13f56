"""Implements Neuphonic: JSON text messages both ways, base64 audio, and ``<STOP>`` at the end of every passage.

Sources: Neuphonic's page "Websocket API" (``docs/source/websocket-api.md`` of pyneuphonic 1.1.1, October 2024);
pyneuphonic 3.1.2, the JavaScript SDK 0.7.3, LiveKit 1.8.9 and pipecat 1.14, measured on the wire. These clients use, in
addition, ``data.stop`` for every ``<STOP>``, ``data.sampling_rate``, ``context_id`` and bare text in place of JSON.
Servers as of October 2024 send no ``data.stop``; the client detects this from the messages.
"""

from __future__ import annotations

import base64
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

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
    with_query,
)
from agent.services.protocols.parsing import decode_base64, dump_error, dump_json, excerpt
from agent.services.protocols.request_ids import ADOPTION_SECONDS, RequestIds
from agent.system.json_text import MAX_MESSAGE_BYTES, fix_surrogates, json_type, parse_json
from agent.system.named_tuple import NamedTuple

NAME = "neuphonic"
STOP = "<STOP>"
SAMPLING_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
"""The sample rates in Hz that the service and its SDKs list."""
SPEED = (0.7, 2.5)
"""Lowest and highest speed; 1 is natural."""
TEMPERATURE = (0.0, 1.0)
SAMPLES = {"pcm_linear": "s16le", "pcm_mulaw": "mulaw"}
"""The sample format of each ``encoding``."""

_STOP_PATTERN = "(?ai)<STOP>"
_STOP_PREFIX = r"(?ai)<(S(T(OP?)?)?)?\Z"
_MAX_PREFIX_CHARACTERS = len(STOP) - 1
_LANGUAGE = r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*"
_MAX_TEXT_CHARACTERS = 16000
_MAX_PASSAGES = 1000
_IMMEDIATE_SECONDS = 0.05
_PAUSE_SECONDS = 2.5  # without stop flags, a longer pause of the audio counts as the end; pipecat waits 3 s
_FIRST_AUDIO_SECONDS = 10.0
_LATE_STOP_SECONDS = 5.0


class StopFilter:
    """Removes ``<STOP>`` from text that arrives in pieces, and drops passages of white space only.

    At most five characters at the end of a piece are held back as long as they may be the beginning of ``<STOP>``. Not
    thread-safe; owned by the codec.
    """

    def __init__(self) -> None:
        self._held = ""
        self._blank = ""
        self._is_blank = True

    def feed(self, text: str) -> str:
        """Return the text that can be sent now."""
        # A space and not an empty text: otherwise "<ST<STOP>OP>" would become "<STOP>".
        text = re.sub(_STOP_PATTERN, " ", self._held + text) if "<" in self._held + text else text
        held = _prefix_length(text)
        self._held = text[len(text) - held :]
        return self._without_blank(text[: len(text) - held])

    def finish(self) -> str:
        """Return the rest of the passage. The next piece begins a new passage."""
        text, self._held = self._without_blank(self._held), ""
        self._blank, self._is_blank = "", True
        return text

    def _without_blank(self, text: str) -> str:
        if self._is_blank and not text.strip():
            self._blank += text
            return ""
        text, self._blank, self._is_blank = self._blank + text, "", False
        return text


class StopSplitter:
    """Splits text that arrives in pieces at each ``<STOP>``, which may itself be split over several pieces.

    Not thread-safe; owned by the codec.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """Return the text before each mark, and as the last element the text after the last mark."""
        *passages, rest = (self._held + text).split(STOP)
        held = _prefix_length(rest)
        if rest[len(rest) - held :] != STOP[:held]:
            held = 0  # unlike ``StopFilter``, the splitter accepts only the exact spelling
        self._held = rest[len(rest) - held :]
        return [*passages, rest[: len(rest) - held]]

    @property
    def has_held(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)

    def finish(self) -> str:
        """Return the text that was held back."""
        held, self._held = self._held, ""
        return held


class QueryParams:
    """Checks the query of the handshake, with the parameter names of today and of 2024. Immutable after construction.

    ``error`` describes a value that is out of range, as a clause that fits after "expected"; ``None`` if there is none.
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        self.error: str | None = None
        self.speed = self._number(query, "speed", 1.0, SPEED)
        self.temperature = self._number(query, "temperature", 0.5, TEMPERATURE)
        rate = query.get("sampling_rate", "22050")
        if rate not in {str(allowed) for allowed in SAMPLING_RATES}:
            self.error = f"sampling_rate to be one of {', '.join(map(str, SAMPLING_RATES))}, not {excerpt(rate)}"
            rate = "22050"
        samples = query.get("encoding", "pcm_linear")
        if samples not in SAMPLES:
            self.error = f"encoding to be pcm_linear or pcm_mulaw, not {excerpt(samples)}"
        if query.get("output_format", "raw") not in ("raw", "pcm"):
            self.error = f"output_format to be raw, not {excerpt(query['output_format'])}"
        self.encoding = Encoding("raw", int(rate), 1, SAMPLES.get(samples, "s16le"))

    def _number(self, query: Mapping[str, str], name: str, default: float, bounds: tuple[float, float]) -> float:
        value = query.get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not bounds[0] <= number <= bounds[1]:
            self.error = f"{name} to be a number from {bounds[0]} to {bounds[1]}, not {excerpt(value)}"
            return default
        return number


class Client:
    """The client codec. One connection serves any number of passages, one after the other.

    A passage is complete when its ``data.stop`` arrives. After ``send(End)``, the codec returns ``End`` when all
    passages are complete, or, for a server that sends no stop flags, after a pause of the audio. A ``<STOP>`` in the
    text is replaced by a space, in upper or lower case and also if it is split over several pieces. The ``request_id``
    of a ``Text`` is sent as ``context_id``; messages of other contexts are refused. Not thread-safe; owned by the
    thread that owns the connection.

    Args:
        url: The URL; its query takes precedence over the other arguments.
        api_key: The API key, sent as a header.
        speed: 0.7 to 2.5; 1 is natural.
        temperature: 0 to 1; ``None``: not sent.
        sampling_rate: In Hz, one of ``SAMPLING_RATES``.
        voice: The voice ID; empty: the default voice of the language.

    Raises:
        ValueError: A value is out of range.
    """

    service = NAME
    max_idle_seconds: float | None = 50.0
    """Below the limits of the page (90 s) and of later documentation (60 s)."""
    is_single_use = False

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        speed: float = 1.0,
        temperature: float | None = 0.5,
        sampling_rate: int = 22050,
        voice: str = "",
    ) -> None:
        target = parse_target(url)
        if target is None:
            raise ValueError("cannot read the url of neuphonic: check its query")
        path, query = target
        fields = {"speed": str(speed)}
        if temperature is not None:
            fields["temperature"] = str(temperature)
        fields["sampling_rate"] = str(sampling_rate)
        fields["encoding"] = "pcm_linear"
        language = path.rstrip("/").rpartition("/speak/")[2]
        if "/speak/" in path and re.fullmatch(_LANGUAGE, language):
            fields["lang_code"] = language
        if voice:
            fields["voice_id"] = voice
        params = QueryParams({**fields, **query})
        if params.error is not None:
            raise ValueError(f"neuphonic expects {params.error}")
        self.encoding: Encoding = params.encoding
        self.receive_timeout_seconds: float | None = None
        self._url = with_query(url, fields)
        self._key = api_key
        self._filter = StopFilter()
        self._contexts = RequestIds()
        self._context: str | None = None  # of the current passage
        self._requested = 0  # number of passages with text for which <STOP> was sent
        self._stopped = 0  # number of these passages that are complete
        # Number of stop flags that followed another one without audio in between. Such a flag repeats the previous one
        # or ends a passage without audio. The two cannot be distinguished, so the session must not end immediately.
        self._ambiguous_stops = 0
        self._has_open_text = False  # text was sent, and <STOP> was not sent after it
        self._stop_is_last = False
        self._end_sent = False
        self._is_over = False  # End or a fatal Failure was returned
        self._server_has_flags = False  # the server sends data.stop
        self._has_audio = False
        self._audio_since_stop = False
        self._audio_since_request = False

    def handshake(self) -> Handshake:
        """Return the URL and the key as a header. The key is not in the URL, because URLs appear in logs."""
        return Handshake(self._url, {"x-api-key": self._key} if self._key else {})

    def send(self, event: Event) -> list[Message]:
        messages: list[Message] = []
        if self._end_sent:
            return messages
        if isinstance(event, Text):
            if not self._has_open_text:
                self._context = event.request_id
            messages += self._text(self._filter.feed(fix_surrogates(event.text)))
        elif isinstance(event, Flush | End):
            messages += self._text(self._filter.finish())
            if self._has_open_text:
                messages.append(self._message(STOP))
                self._has_open_text, self._stop_is_last = False, True
                self._requested += 1
                self._audio_since_request = False
            if isinstance(event, End):
                if not self._stop_is_last:
                    messages.append(dump_json({"text": STOP}))
                self._end_sent = True
        self._set_timeout()
        return messages

    def receive(self, message: Message) -> list[Event]:
        fields = parse_json(message)
        if isinstance(fields, str):
            return [self._refuse(message, f"a JSON object with data.audio ({fields})")]
        data = fields.get("data")
        context = fields.get("context_id", data.get("context_id") if isinstance(data, dict) else None)
        is_error = fields.get("type") == "error" or (data is None and reports_error(fields))
        if self._contexts.claim_or_reject(context):
            has_audio = isinstance(data, dict) and bool(data.get("audio"))
            self._contexts.hold(message, context, has_audio=has_audio, is_error=is_error)
            self._set_timeout()
            received = excerpt(message, self._key)
            return [Failure(NAME, received, "messages of its own context", fatal=False, is_foreign=True)]
        if is_error:
            if self._is_over:
                return []
            self._is_over = True
            self.receive_timeout_seconds = None
            return [reported_error(NAME, message, fields, self._key)]
        if data is None:
            return []
        if not isinstance(data, dict):
            return [self._refuse(message, f"data to be an object, not {json_type(data)}")]
        events: list[Event] = []
        stop = data.get("stop")
        if context is None and (data.get("audio") or stop is True):
            self._contexts.settle_without_id()
        self._server_has_flags = self._server_has_flags or isinstance(stop, bool)
        if data.get("audio") is not None:
            audio = decode_base64(data["audio"])
            if isinstance(audio, str):
                events.append(self._refuse(message, f"base64 in data.audio ({audio})"))
            elif audio and self._is_over:
                events.append(self._refuse(message, "no audio after the last passage"))
            elif audio:
                self._has_audio = self._audio_since_stop = self._audio_since_request = True
                events.append(Audio(audio, _valid_rate(data.get("sampling_rate"))))
        if stop is True:
            events += self._stop()
        self._set_timeout()
        return events

    def receive_timeout(self) -> list[Event]:
        if self._contexts.has_held and not self._is_over:
            return self._adopt()
        return [] if self.receive_timeout_seconds is None else self._end()

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._contexts.has_held:
            return [*self._adopt(), *self.receive_close(code, reason)]
        if self._is_over:
            return []
        if not self._requested and not self._has_open_text:
            return self._end() if self._end_sent else []
        ends_without_flags = self._has_audio and not self._has_open_text and not self._server_has_flags
        may_be_complete = self._end_sent and self._stopped + self._ambiguous_stops >= self._requested
        if code == 1000 and (ends_without_flags or may_be_complete):
            return self._end()
        if self._end_sent and self._stopped >= self._requested:
            return self._end()
        self._is_over = True
        self.receive_timeout_seconds = None
        received = describe_close(code, reason, self._key)
        expected, is_end_missing = (
            "the end of every passage before the connection ends",
            self._stopped < self._requested,
        )
        return [
            Failure(NAME, received, expected, status=code, is_end_missing=is_end_missing and self._server_has_flags)
        ]

    def _text(self, text: str) -> list[Message]:
        if not text:
            return []
        if not self._has_open_text:
            self._contexts.add(self._context)
        self._has_open_text, self._stop_is_last = True, False
        pieces = (text[at : at + _MAX_TEXT_CHARACTERS] for at in range(0, len(text), _MAX_TEXT_CHARACTERS))
        return [self._message(piece) for piece in pieces]

    def _message(self, text: str) -> str:
        return dump_json({"text": text} if self._context is None else {"context_id": self._context, "text": text})

    def _adopt(self) -> list[Event]:
        return [event for message in self._contexts.adopt() for event in self.receive(message)]

    def _stop(self) -> list[Event]:
        events: list[Event] = []
        if self._stopped < self._requested:
            if self._stopped and not self._audio_since_stop:
                self._ambiguous_stops += 1
            else:
                self._stopped += 1
                events.append(Flush())
            self._audio_since_stop = False
        if self._end_sent and self._stopped >= self._requested:
            events += self._end()
        return events

    def _set_timeout(self) -> None:
        self.receive_timeout_seconds = None
        if self._is_over:
            return
        if self._contexts.has_held_audio:
            self.receive_timeout_seconds = ADOPTION_SECONDS
        elif not self._end_sent:
            return
        elif self._stopped >= self._requested:
            # All passages were complete before End was sent, so no message will arrive that returns the End event.
            self.receive_timeout_seconds = _IMMEDIATE_SECONDS
        elif self._stopped + self._ambiguous_stops >= self._requested:
            self.receive_timeout_seconds = _LATE_STOP_SECONDS
        elif not self._server_has_flags and self._has_audio:
            # The first audio of a passage may take long. Later, the audio pauses only at the end of the passage.
            self.receive_timeout_seconds = _PAUSE_SECONDS if self._audio_since_request else _FIRST_AUDIO_SECONDS

    def _end(self) -> list[Event]:
        self.receive_timeout_seconds = None
        if self._is_over:
            return []
        self._is_over = True
        return [End()]

    def _refuse(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False)


class Server:
    """The server codec. Its messages contain all fields of today and of October 2024, so it serves old clients, too.

    For each ``<STOP>``, also without text before it, ``receive`` returns a ``Flush``, and the caller must respond with
    ``send(Flush)``: pipecat sends a second bare ``<STOP>``, and LiveKit waits for each stop flag. ``request_id`` of an
    event is the ``context_id`` of the message. If an event to send has no ``request_id``, the codec uses that of the
    oldest passage, because LiveKit drops audio of other contexts. Not thread-safe; owned by the connection's thread.

    Args:
        api_key: The key that clients must send; ``None``: no key is required.
        timestamp: Returns the ``timestamp`` of each message; ``None``: messages have no timestamp.
        stop_flags: ``False``: the messages omit all fields that servers did not send in October 2024.

    Attributes:
        encoding, language, voice, speed, temperature: The values of the handshake.
    """

    service = NAME

    def __init__(
        self, api_key: str | None = None, *, timestamp: Callable[[], str] | None = None, stop_flags: bool = True
    ) -> None:
        self._key = api_key
        self._timestamp = timestamp
        self._has_stop_flags = stop_flags
        self.encoding = Encoding("raw", 22050)
        self.language, self.voice = "en", ""
        self.speed, self.temperature = 1.0, 0.5
        self._splitter = StopSplitter()
        self._has_open_text = False  # text was received, and no <STOP> after it
        self._context: str | None = None
        self._passages: deque[str | None] = deque()
        self._caption = ""
        self._is_over = False

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Check path, key and query. A wrong key is refused with the status 403, as the service does."""
        target = parse_target(path)
        place, query = target if target is not None else ("", {})
        root, _, language = place.rstrip("/").rpartition("/")
        if root != "/speak" or not re.fullmatch(_LANGUAGE, language):
            return self._deny(excerpt(place), "the path /speak/<language>", 404)
        if self._key and not keys_match(header(headers, "x-api-key") or query.get("api_key"), self._key):
            return self._deny("no key or a wrong key", "its key in the header x-api-key", 403)
        params = QueryParams(query)
        if params.error is not None:
            return self._deny("a query that is out of range", params.error, 400)
        self.encoding, self.speed, self.temperature = params.encoding, params.speed, params.temperature
        self.language = query.get("lang_code") or query.get("language_id") or language
        self.voice = query.get("voice_id") or query.get("voice") or ""
        return None

    def receive(self, message: Message) -> list[Event]:
        if isinstance(message, bytes):
            return [Failure(NAME, excerpt(message), "a text message", fatal=False)]
        text, context = message, self._context
        fields = parse_json(message)
        if isinstance(fields, dict):
            value = fields.get("text")
            if not isinstance(value, str):
                expected = f"text, not {json_type(value)}, in its field text"
                return [Failure(NAME, excerpt(message), expected, fatal=False)]
            # A message without context_id belongs to the open passage: a bare <STOP> may end text with a context_id.
            text, context = fix_surrogates(value), self._context if self._has_open_text else None
            if isinstance(fields.get("context_id"), str):
                context = fix_surrogates(str(fields["context_id"]))[:200]
        elif message.lstrip().startswith("{") or len(message) > MAX_MESSAGE_BYTES:
            return [Failure(NAME, excerpt(message), f"JSON or bare text ({fields})", fatal=False)]
        events: list[Event] = []
        if context != self._context and (held := self._splitter.finish()):
            events.append(Text(held, self._context))
        self._context = context
        *passages, rest = self._splitter.feed(text)
        if len(self._passages) + len(passages) > _MAX_PASSAGES:
            return [Failure(NAME, excerpt(message), f"at most {_MAX_PASSAGES} passages that wait for their audio")]
        for passage in passages:
            if passage:
                events.append(Text(passage, context))
            events.append(Flush(context))
            self._passages.append(context)
        if rest:
            events.append(Text(rest, context))
        self._has_open_text = bool(rest) or self._splitter.has_held or (self._has_open_text and not passages)
        return events

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Text):
            self._caption += event.text
        elif isinstance(event, Audio) and event.data:
            context = self._passages[0] if self._passages else self._context
            return [self._message(event.data, event.sample_rate, False, event.request_id or context)]
        elif isinstance(event, Flush):
            context = self._passages.popleft() if self._passages else self._context
            return [self._message(b"", None, True, event.request_id or context)] if self._has_stop_flags else []
        elif isinstance(event, Failure):
            return [dump_error(event)]
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return ``End``: the client sends nothing more."""
        if self._is_over:
            return []
        self._is_over = True
        return [End()]

    def _message(self, audio: bytes, rate: int | None, stop: bool, context: str | None) -> str:
        data: dict[str, object] = {"audio": base64.b64encode(audio).decode("ascii"), "text": self._caption}
        self._caption = ""
        if self._has_stop_flags:
            data["sampling_rate"] = rate or self.encoding.sample_rate
            data["stop"] = stop
            if context is not None:
                data["context_id"] = context
        fields: dict[str, object] = {"version": "1.0.0"}
        if self._timestamp is not None:
            fields["timestamp"] = self._timestamp()
        return dump_json({**fields, "data": data})

    def _deny(self, received: str, expected: str, status: int) -> Failure:
        return Failure(NAME, received, expected, permanent=True, status=status)


def _prefix_length(text: str) -> int:
    """Return how many characters at the end of the text may be the beginning of ``<STOP>``, in any case."""
    end = text[-_MAX_PREFIX_CHARACTERS:]
    match = re.search(_STOP_PREFIX, end) if "<" in end else None
    return 0 if match is None else len(match.group())


def _valid_rate(value: object) -> int | None:
    return value if isinstance(value, int) and 4000 <= value <= 192000 else None


@section
class Settings(NamedTuple):
    """The service Neuphonic."""

    url: str = key(
        "wss://eu-west-1.api.neuphonic.com/speak/en",
        "WebSocket URL; its host selects the region, the last part of its path the language",
    )
    api_key: Secret = key(
        lambda: Secret(credential="neuphonic"), "where the API key is stored; its account pays for the speech"
    )
    speed: float = key(1.0, "speed of the voice; 2 is twice as fast", low=0.7, high=2.5)
    temperature: float | None = key(0.5, "higher is livelier and less stable; null: not sent", low=0.0, high=1.0)
    sampling_rate: int = key(
        22050, "sample rate of the speech in Hz; higher sounds clearer and needs more bandwidth", choices=SAMPLING_RATES
    )
    voice: str = key("", "voice ID; empty: the default voice of the language")


def _client(settings: Settings, url: str, api_key: str | None) -> Client:
    return Client(
        url=url,
        api_key=api_key,
        speed=settings.speed,
        temperature=settings.temperature,
        sampling_rate=settings.sampling_rate,
        voice=settings.voice,
    )


def _server(api_key: str | None, options: Mapping[str, Any]) -> ServerSide:
    def timestamp() -> str:
        from datetime import UTC, datetime  # imported late: takes 1 ms, and only the server needs it

        return datetime.now(UTC).replace(tzinfo=None).isoformat()

    has_stop_flags = not options.get("--no-stop-flags")
    return ServerSide(lambda: Server(api_key, timestamp=timestamp, stop_flags=has_stop_flags), idle_seconds=90.0)


SERVICE = TtsService(
    name="neuphonic",
    title="Neuphonic",
    settings=Settings,
    client=_client,
    server=_server,
    server_options=(ServerOption("--no-stop-flags", "send no data.stop with neuphonic, as in 2024"),),
    paths=("/speak/*",),
    local_settings=lambda base: {"url": f"{base}/speak/en"},
)

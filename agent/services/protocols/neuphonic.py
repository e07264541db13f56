"""Neuphonic: JSON text both ways, base64 sound, ``<STOP>`` at the end of every passage.

Source: the service's own page "Websocket API" of October 2024 (pyneuphonic 1.1.1), and what its SDKs do on the wire
since then: ``data.stop`` for every ``<STOP>``, ``data.sampling_rate``, ``context_id``, bare text in place of JSON.
Servers of the page's date send no ``data.stop``; which kind it is shows in what arrives.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
from agent.services.protocols.handshake import header, keys_match, parse_target, with_query
from agent.services.protocols.parsing import decode_base64, excerpt, is_permanent, status_of
from agent.system.json_text import MAX_MESSAGE_BYTES, fix_surrogates, json_type, parse_json

STOP = "<STOP>"

_TOKEN = re.compile("<STOP>", re.IGNORECASE | re.ASCII)
_BEGUN = re.compile(r"<(S(T(OP?)?)?)?\Z", re.IGNORECASE | re.ASCII)
_LONGEST_BEGUN = len(STOP) - 1


class StopFilter:
    """Takes literal ``<STOP>`` out of a text that comes in pieces, and white space that would be all of a passage.

    What may become the mark with the next piece is held back: at most five characters.
    """

    def __init__(self) -> None:
        self._held = ""
        self._blank = ""
        self._blank_so_far = True

    def feed(self, text: str) -> str:
        """What of the passage can be sent now."""
        # A space and not nothing: "<ST<STOP>OP>" must not become the mark by taking one out.
        text = _TOKEN.sub(" ", self._held + text)
        keep = _begun(text)
        self._held = text[len(text) - keep :]
        return self._without_blank(text[: len(text) - keep])

    def finish(self) -> str:
        """The rest of the passage; the next piece begins a new one."""
        text, self._held = self._without_blank(self._held), ""
        self._blank, self._blank_so_far = "", True
        return text

    def _without_blank(self, text: str) -> str:
        if self._blank_so_far and not text.strip():
            self._blank += text
            return ""
        text, self._blank, self._blank_so_far = self._blank + text, "", False
        return text


class StopSplitter:
    """Finds ``<STOP>`` in a text that comes in pieces, also where it is split over two of them."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The passages in ``text``: what stands before each mark, and at last what stands behind the last one."""
        *passages, rest = (self._held + text).split(STOP)
        keep = _begun(rest)
        if rest[len(rest) - keep :] != STOP[:keep]:
            keep = 0  # only the mark as it is written ends a passage
        self._held = rest[len(rest) - keep :]
        return [*passages, rest[: len(rest) - keep]]

    def finish(self) -> str:
        """What was held back because it might have become a mark."""
        held, self._held = self._held, ""
        return held


def _begun(text: str) -> int:
    """How many characters at the end of ``text`` are a beginning of the mark."""
    found = _BEGUN.search(text, max(0, len(text) - _LONGEST_BEGUN))
    return 0 if found is None else len(found.group())


SAMPLING_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
SPEED = (0.7, 2.5)
TEMPERATURE = (0.0, 1.0)
SAMPLES = {"pcm_linear": "s16le", "pcm_mulaw": "mulaw"}


class QueryParams:
    """What a query asks for, in today's names and in those of 2024. ``mistake``: what is out of range, in words."""

    def __init__(self, said: Mapping[str, str]) -> None:
        self.mistake: str | None = None
        self.speed = self._number(said, "speed", 1.0, SPEED)
        self.temperature = self._number(said, "temperature", 0.5, TEMPERATURE)
        rate = said.get("sampling_rate", "22050")
        if rate not in {str(known) for known in SAMPLING_RATES}:
            self.mistake = f"sampling_rate to be one of {', '.join(map(str, SAMPLING_RATES))}, not {excerpt(rate)}"
            rate = "22050"
        samples = said.get("encoding", "pcm_linear")
        if samples not in SAMPLES:
            self.mistake = f"encoding to be pcm_linear or pcm_mulaw, not {excerpt(samples)}"
        if said.get("output_format", "raw") not in ("raw", "pcm"):
            self.mistake = f"output_format to be raw, not {excerpt(said['output_format'])}"
        self.encoding = Encoding("raw", int(rate), 1, SAMPLES.get(samples, "s16le"))

    def _number(self, said: Mapping[str, str], name: str, default: float, bounds: tuple[float, float]) -> float:
        given = said.get(name)
        if given is None:
            return default
        try:
            number = float(given)
        except ValueError:
            number = math.nan
        if not bounds[0] <= number <= bounds[1]:
            self.mistake = f"{name} to be a number from {bounds[0]} to {bounds[1]}, not {excerpt(given)}"
            return default
        return number


NAME = "neuphonic"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_TEXT_CHARACTERS = 16000
_PASSAGES = 1000
_AT_ONCE_SECONDS = 0.05
_QUIET_SECONDS = 2.5
_FIRST_SOUND_SECONDS = 10.0
_DOUBT_SECONDS = 5.0


class Client:
    """Speaks to Neuphonic. One connection takes any number of passages, one after the other.

    A passage is complete when its ``data.stop`` has come; the ``End`` follows the last one after ``send(End)``. Where a
    server sends no such flags, the end is a quiet period after the last sound. A ``<STOP>`` that stands in a text, in
    any case and also if it only appears where two pieces meet, is replaced by a space. What the query of ``url`` says
    outranks the arguments. Raises ``ValueError``, one sentence, for a value out of range.
    """

    service = NAME
    max_idle_seconds: float | None = 50.0
    """The page says 90 seconds, later pages 60: below both."""
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
            raise ValueError("the url of neuphonic cannot be read: check its query")
        path, said = target
        fields = {"speed": str(speed)}
        if temperature is not None:
            fields["temperature"] = str(temperature)
        fields["sampling_rate"] = str(sampling_rate)
        fields["encoding"] = "pcm_linear"
        language = path.rstrip("/").rpartition("/speak/")[2]
        if "/speak/" in path and _LANGUAGE.fullmatch(language):
            fields["lang_code"] = language
        if voice:
            fields["voice_id"] = voice
        wish = QueryParams({**fields, **said})
        if wish.mistake is not None:
            raise ValueError(f"neuphonic wants {wish.mistake}")
        self.encoding: Encoding = wish.encoding
        self.receive_timeout_seconds: float | None = None
        self._url = with_query(url, fields)
        self._key = api_key
        self._guard = StopFilter()
        self._asked = 0  # passages that had text and were ended by a <STOP>
        self._stopped = 0  # of these, the ones whose end has come
        self._doubtful = 0  # stops without sound after another stop: an echo of that one, or a silent passage
        self._pending = False  # text is on the wire that no <STOP> has followed
        self._stop_is_last = False
        self._end_sent = False
        self._over = False  # the End, or a fatal Failure, has been given
        self._flags = False  # this server sends data.stop
        self._any_sound = False
        self._sound_since_stop = False
        self._sound_since_asked = False

    def handshake(self) -> Handshake:
        """The key goes into the header: a URL gets logged."""
        return Handshake(self._url, {"x-api-key": self._key} if self._key else {})

    def send(self, event: Event) -> list[Message]:
        messages: list[Message] = []
        if self._end_sent:
            return messages
        if isinstance(event, Text):
            messages += self._text(self._guard.feed(fix_surrogates(event.text)))
        elif isinstance(event, Flush | End):
            messages += self._text(self._guard.finish())
            if self._pending:
                messages.append(_dump({"text": STOP}))
                self._pending, self._stop_is_last = False, True
                self._asked += 1
                self._sound_since_asked = False
            if isinstance(event, End):
                if not self._stop_is_last:
                    messages.append(_dump({"text": STOP}))
                self._end_sent = True
        self._set_quiet()
        return messages

    def receive(self, message: Message) -> list[Event]:
        found = parse_json(message)
        if isinstance(found, str):
            return [self._refuse(message, f"a JSON object with data.audio ({found})")]
        data = found.get("data")
        if found.get("type") == "error" or (data is None and found.get("error")):
            if self._over:
                return []
            self._over = True
            self.receive_timeout_seconds = None
            status = status_of(found)
            came = f"the error {excerpt(message, self._key)}"
            return [Failure(NAME, came, "sound", permanent=is_permanent(status), status=status)]
        if data is None:
            return []
        if not isinstance(data, dict):
            return [self._refuse(message, f"data to be an object, not {json_type(data)}")]
        events: list[Event] = []
        stop = data.get("stop")
        self._flags = self._flags or isinstance(stop, bool)
        if data.get("audio") is not None:
            sound = decode_base64(data["audio"])
            if isinstance(sound, str):
                events.append(self._refuse(message, f"base64 in data.audio ({sound})"))
            elif sound and self._over:
                events.append(self._refuse(message, "nothing more after the last passage"))
            elif sound:
                self._any_sound = self._sound_since_stop = self._sound_since_asked = True
                events.append(Audio(sound, _sane_rate(data.get("sampling_rate"))))
        if stop is True:
            events += self._passage_ended()
        self._set_quiet()
        return events

    def receive_timeout(self) -> list[Event]:
        if self.receive_timeout_seconds is None:
            return []
        return self._end()

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._over:
            return []
        if not self._asked and not self._pending:
            return self._end() if self._end_sent else []
        silent_end = self._any_sound and not self._pending and not self._flags
        doubtful_end = self._end_sent and self._stopped + self._doubtful >= self._asked
        if code == 1000 and (silent_end or doubtful_end):
            return self._end()
        if self._end_sent and self._stopped >= self._asked:
            return self._end()
        self._over = True
        self.receive_timeout_seconds = None
        came = f"the close code {code}{' ' + excerpt(reason, self._key) if reason else ''}"
        return [Failure(NAME, came, "the end of every passage before the connection ends", status=code)]

    def _text(self, text: str) -> list[Message]:
        if not text:
            return []
        self._pending, self._stop_is_last = True, False
        return [_dump({"text": text[at : at + _TEXT_CHARACTERS]}) for at in range(0, len(text), _TEXT_CHARACTERS)]

    def _passage_ended(self) -> list[Event]:
        events: list[Event] = []
        if self._stopped < self._asked:
            if self._stopped and not self._sound_since_stop:
                self._doubtful += 1
            else:
                self._stopped += 1
                events.append(Flush())
            self._sound_since_stop = False
        if self._end_sent and self._stopped >= self._asked:
            events += self._end()
        return events

    def _set_quiet(self) -> None:
        self.receive_timeout_seconds = None
        if not self._end_sent or self._over:
            return
        if self._stopped >= self._asked:
            # Everything had come before the End was sent, so no message will ever bring it.
            self.receive_timeout_seconds = _AT_ONCE_SECONDS
        elif self._stopped + self._doubtful >= self._asked:
            self.receive_timeout_seconds = _DOUBT_SECONDS
        elif not self._flags and self._any_sound:
            # Sound of the last passage may take long to begin; once it flows, it pauses only at its end.
            self.receive_timeout_seconds = _QUIET_SECONDS if self._sound_since_asked else _FIRST_SOUND_SECONDS

    def _end(self) -> list[Event]:
        self.receive_timeout_seconds = None
        if self._over:
            return []
        self._over = True
        return [End()]

    def _refuse(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False)


class Server:
    """Speaks as Neuphonic does: today's messages, in which a client of the page's date finds what it looks for.

    After ``handshake``: ``encoding``, ``language``, ``voice``, ``speed``, ``temperature``. Every ``<STOP>`` gives a
    ``Flush``, also one with no text before it, and wants a ``send(Flush)``. ``request_id`` of the events is the
    ``context_id`` of the messages; it is echoed in the order of the passages also where the caller names none.
    ``timestamp`` is called for the timestamp of each message. ``stop_flags=False`` leaves out all the page does not
    have, as servers of its date did.
    """

    service = NAME

    def __init__(
        self, api_key: str | None = None, *, timestamp: Callable[[], str] | None = None, stop_flags: bool = True
    ) -> None:
        self._key = api_key
        self._timestamp = timestamp
        self._stop_flags = stop_flags
        self.encoding = Encoding("raw", 22050)
        self.language, self.voice = "en", ""
        self.speed, self.temperature = 1.0, 0.5
        self._finder = StopSplitter()
        self._context: str | None = None
        self._passages: deque[str | None] = deque()
        self._caption = ""
        self._over = False

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        target = parse_target(path)
        place, said = target if target is not None else ("", {})
        root, _, language = place.rstrip("/").rpartition("/")
        if root != "/speak" or not _LANGUAGE.fullmatch(language):
            return self._deny(excerpt(place), "the path /speak/<language>", 404)
        if self._key and not keys_match(header(headers, "x-api-key") or said.get("api_key"), self._key):
            return self._deny("no key or a wrong key", "its key in the header x-api-key", 403)
        wish = QueryParams(said)
        if wish.mistake is not None:
            return self._deny("a query that is out of range", wish.mistake, 400)
        self.encoding, self.speed = wish.encoding, wish.speed
        self.temperature = wish.temperature
        self.language = said.get("lang_code") or said.get("language_id") or language
        self.voice = said.get("voice_id") or said.get("voice") or ""
        return None

    def receive(self, message: Message) -> list[Event]:
        if isinstance(message, bytes):
            return [Failure(NAME, excerpt(message), "a text message", fatal=False)]
        text, context = message, self._context
        found = parse_json(message)
        if isinstance(found, dict):
            said = found.get("text")
            if not isinstance(said, str):
                return [Failure(NAME, excerpt(message), f"text, not {json_type(said)}, in its field text", fatal=False)]
            text, context = fix_surrogates(said), None
            if isinstance(found.get("context_id"), str):
                context = str(found["context_id"])[:200]
        elif message.lstrip().startswith("{") or len(message) > MAX_MESSAGE_BYTES:
            return [Failure(NAME, excerpt(message), f"JSON or bare text ({found})", fatal=False)]
        events: list[Event] = []
        if context != self._context and (held := self._finder.finish()):
            events.append(Text(held, self._context))
        self._context = context
        *passages, rest = self._finder.feed(text)
        if len(self._passages) + len(passages) > _PASSAGES:
            return [Failure(NAME, excerpt(message), f"at most {_PASSAGES} passages that wait for their sound")]
        for passage in passages:
            if passage:
                events.append(Text(passage, context))
            events.append(Flush(context))
            self._passages.append(context)
        if rest:
            events.append(Text(rest, context))
        return events

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Text):
            self._caption += event.text
        elif isinstance(event, Audio) and event.data:
            context = self._passages[0] if self._passages else self._context
            return [self._message(event.data, event.sample_rate, False, event.request_id or context)]
        elif isinstance(event, Flush):
            context = self._passages.popleft() if self._passages else self._context
            return [self._message(b"", None, True, event.request_id or context)] if self._stop_flags else []
        elif isinstance(event, Failure):
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

    def _message(self, sound: bytes, rate: int | None, stop: bool, context: str | None) -> str:
        data: dict[str, object] = {"audio": base64.b64encode(sound).decode("ascii"), "text": self._caption}
        self._caption = ""
        if self._stop_flags:
            data["sampling_rate"] = rate or self.encoding.sample_rate
            data["stop"] = stop
            if context is not None:
                data["context_id"] = context
        told: dict[str, object] = {"version": "1.0.0"}
        if self._timestamp is not None:
            told["timestamp"] = self._timestamp()
        return _dump({**told, "data": data})

    def _deny(self, came: str, expected: str, status: int) -> Failure:
        return Failure(NAME, came, expected, permanent=True, status=status)


def _sane_rate(value: object) -> int | None:
    return value if isinstance(value, int) and 4000 <= value <= 192000 else None


def _dump(told: Mapping[str, object]) -> str:
    return json.dumps(told, ensure_ascii=False)


@dataclass(frozen=True)
class Settings:
    """The service Neuphonic."""

    url: str = key("wss://eu-west-1.api.neuphonic.com/speak/en", "region and language: the last part of the path")
    api_key: Secret = key(lambda: Secret(credential="neuphonic"), "pays for the speech; where the API key is stored")
    speed: float = key(1.0, "speed of the voice; 1 is natural", low=0.7, high=2.5)
    temperature: float | None = key(0.5, "higher sounds livelier and less steady; null: not sent", low=0.0, high=1.0)
    sampling_rate: int = key(22050, "sample rate of the speech in Hz; higher sounds clearer", choices=SAMPLING_RATES)
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

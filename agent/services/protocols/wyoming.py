"""Implements the client side of Wyoming for speech: text to a speech server of the local network, PCM back.

Sources: the package ``wyoming`` 1.10.2 (``event.py``, ``tts.py``, ``audio.py``, ``info.py``) and the server
``wyoming-piper`` 2.5.2. A client requests the server's ``info`` first and selects a voice from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from agent.config.errors import Finding
from agent.config.fields import key, section
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
    Text,
    TtsService,
)
from agent.services.protocols.handshake import describe_close
from agent.services.protocols.parsing import excerpt
from agent.services.protocols.wyoming_event import EventError, WyomingEvent, decode_event, encode_event
from agent.services.protocols.wyoming_info import InfoError, Program, name_some, read_info
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

NAME = "wyoming"
DEFAULT_PORT = 10300

SCHEMES = ("tcp",)
_MAX_RATE, _MIN_RATE = 192000, 4000
IGNORED_EVENTS = ("pong", "info")
"""Event types that the clients ignore in an open session."""


@section
class Settings(NamedTuple):
    """A speech server of the network that speaks Wyoming, such as wyoming-piper."""

    url: str = key(
        f"tcp://127.0.0.1:{DEFAULT_PORT}", "address of the server; the port of wyoming-piper is usually 10200"
    )
    voice: str = key("", "name of the voice, such as en_US-joe-medium; empty: the server's first one")
    speaker: str = key("", "name of the speaker of a voice that has several")
    language: str = key("", "language in place of a voice, such as de; the server selects the voice")


def check(settings: Settings) -> Iterator[Finding]:
    """Yield the errors in the combination of the settings."""
    if settings.speaker and not settings.voice:
        yield Finding("speaker", "a speaker belongs to a voice, expected the name of that voice too", None, "voice")


class Client:
    """Sends text and receives audio. Not thread-safe; owned by the thread that owns the connection.

    A passage is one request. If the server supports streaming (``supports_synthesize_streaming``), the request consists
    of ``synthesize-start``, ``synthesize-chunk`` events and ``synthesize-stop``, and the server marks the end of the
    audio with ``synthesize-stopped``. So the first sentence of a long passage is spoken while the rest is synthesized.
    ``synthesize-stop`` is sent after each passage, because wyoming-piper speaks the last sentence only then.

    If the server does not support streaming, the request is one ``synthesize``, and the server marks the end of the
    audio with ``audio-stop``.

    A passage of white space only is not sent, and no ``Flush`` is returned for it.

    Args:
        settings: Voice, speaker and language.
        url: The URL; the default port is added if it has none.
    """

    service = NAME
    max_idle_seconds: float | None = None
    is_single_use = False
    receive_timeout_seconds: float | None = None

    def __init__(self, settings: Settings, url: str) -> None:
        self.encoding = Encoding("raw", 22050)  # until audio-start names the actual encoding
        self._settings, self._url = settings, with_port(url)
        self._voice: dict[str, str] = {}
        self._program: str | None = None  # the program to select before the first request
        self._can_stream = False
        self._text = ""  # unsent text: the passage so far, or only its white space for a server with streaming
        self._is_streaming = False
        self._owed = 0  # passages whose end has not arrived
        self._has_ended = self._is_over = False

    def handshake(self) -> Handshake:
        return Handshake(self._url)

    def opening(self) -> list[Message]:
        """Return the request for ``info``; pass the response to ``receive_opening``."""
        return [encode_event("describe")]

    def receive_opening(self, message: bytes) -> None:
        """Read the server's ``info`` and select the voice. Raises ``InfoError`` if the server cannot be used."""
        programs = read_info(message).tts
        if not programs:
            raise InfoError("no speech program", "a server that speaks: check url")
        self._select(programs)

    def send(self, event: Event) -> list[Message]:
        if self._has_ended:
            return []
        if isinstance(event, Text):
            return self._send_text(event.text)
        if isinstance(event, Flush):
            return self._end_passage()
        if isinstance(event, End):
            messages = self._end_passage()
            self._has_ended = True
            return messages
        return []

    def receive(self, message: Message) -> list[Event]:
        if self._is_over:
            return []
        event = read_event(NAME, message)
        if isinstance(event, Failure):
            return [event]
        if event.type == "audio-chunk":
            return self._audio(event)
        if event.type == "audio-start":
            return self._start(event)
        if event.type == ("synthesize-stopped" if self._can_stream else "audio-stop"):
            return self._passage_end()
        if event.type == "error":
            self._is_over = True
            return [reported_error(NAME, event)]
        if event.type in ("audio-stop", *IGNORED_EVENTS):
            return []
        return [Log(event.type)]

    def receive_timeout(self) -> list[Event]:
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._is_over or (self._has_ended and not self._owed):
            return []
        self._is_over = True
        is_end_missing = self._owed > 0
        expected = "the rest of the audio" if is_end_missing else "the connection to last until the end of the text"
        return [Failure(NAME, describe_close(code, reason), expected, status=code, is_end_missing=is_end_missing)]

    def _select(self, programs: tuple[Program, ...]) -> None:
        settings = self._settings
        program = programs[0]
        if settings.voice:
            names = [model.name for each in programs for model in each.models]
            program = next((each for each in programs if each.has_model(settings.voice)), program)
            if names and not program.has_model(settings.voice):
                raise InfoError(f"the voices {name_some(names)}", f"the voice {excerpt(settings.voice)}", True)
            self._voice = {"name": settings.voice, **({"speaker": settings.speaker} if settings.speaker else {})}
        elif settings.language:
            program = next((each for each in programs if each.supports_language(settings.language)), program)
            if not program.supports_language(settings.language):
                languages = [language for each in programs for language in each.languages]
                raise InfoError(f"the languages {name_some(languages)}", f"{excerpt(settings.language)}", True)
            # Send a name if possible: wyoming-piper 2.5.2 ignores the language.
            model = program.model_for(settings.language)
            self._voice = {"name": model} if model else {"language": settings.language}
        if program is not programs[0]:
            self._program = program.name
        self._can_stream = program.can_stream

    def _send_text(self, text: str) -> list[Message]:
        text = fix_surrogates(text)
        messages: list[Message] = []
        if not self._is_streaming:
            self._text += text
            if not (self._can_stream and self._text.strip()):
                return []
            text, self._text = self._text, ""
            self._is_streaming = True
            messages += self._selection()
            messages.append(encode_event("synthesize-start", self._request({})))
        messages.append(encode_event("synthesize-chunk", {"text": text}))
        return messages

    def _end_passage(self) -> list[Message]:
        if self._is_streaming:
            self._is_streaming = False
            self._owed += 1
            return [encode_event("synthesize-stop")]
        text, self._text = self._text, ""
        if not text.strip():
            return []
        self._owed += 1
        return [*self._selection(), encode_event("synthesize", self._request({"text": text}))]

    def _selection(self) -> list[Message]:
        program, self._program = self._program, None
        return [] if program is None else [encode_event("select-program", {"name": program})]

    def _request(self, fields: dict[str, object]) -> dict[str, object]:
        return {**fields, "voice": self._voice} if self._voice else fields

    def _start(self, event: WyomingEvent) -> list[Event]:
        encoding = read_encoding(event.data)
        if encoding is None:
            self._is_over = True
            expected = "16-bit samples (width 2), one or two channels, and a rate"
            return [Failure(NAME, f"audio-start with {excerpt(str(dict(event.data)))}", expected)]
        self.encoding = encoding
        return []

    def _audio(self, event: WyomingEvent) -> list[Event]:
        # Each chunk repeats the rate. A server sends a new audio-start before it changes other parameters.
        rate = event.data.get("rate")
        is_usable = isinstance(rate, int) and _MIN_RATE <= rate <= _MAX_RATE
        return [Audio(event.payload, rate if is_usable else None)] if event.payload else []  # type: ignore[arg-type]

    def _passage_end(self) -> list[Event]:
        if not self._owed:
            return []
        self._owed -= 1
        if self._has_ended and not self._owed:
            self._is_over = True
            return [Flush(), End()]
        return [Flush()]


def with_port(url: str, default: int = DEFAULT_PORT) -> str:
    """Return the URL with a port; the default port is added if the URL has none."""
    parts = urlsplit(url)
    return url if parts.port else parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{default}").geturl()


def read_event(service: str, message: Message) -> WyomingEvent | Failure:
    """Return the event in a message, or a failure that is not fatal if the message is not an event."""
    try:
        return decode_event(message if isinstance(message, bytes) else message.encode())
    except EventError as error:
        return Failure(service, excerpt(message), f"an event ({error})", fatal=False)


def read_encoding(data: Mapping[str, object]) -> Encoding | None:
    """Return the encoding in the data of ``audio-start`` or ``audio-chunk``; ``None`` if it is not supported."""
    rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
    if isinstance(rate, bool) or not isinstance(rate, int) or not _MIN_RATE <= rate <= _MAX_RATE:
        return None
    return Encoding("raw", rate, channels) if width == 2 and isinstance(channels, int) and channels in (1, 2) else None


def reported_error(service: str, event: WyomingEvent) -> Failure:
    """Return the failure for an ``error`` event (``wyoming/error.py``: ``text`` and ``code``)."""
    text, code = event.data.get("text"), event.data.get("code")
    shown = excerpt(fix_surrogates(text)) if isinstance(text, str) else "no text"
    return Failure(service, f"the error {shown}{f' ({excerpt(code)})' if isinstance(code, str) else ''}", "its result")


def _local_settings(base: str) -> dict[str, object]:
    """Return the settings for the server of voice-agent: its URL and its default voice.

    If ``base`` is a WebSocket URL, the port is the default port, because Wyoming needs a port of its own.
    """
    parts = urlsplit(base)
    port = parts.port if parts.scheme in SCHEMES else DEFAULT_PORT
    return {"url": f"tcp://{parts.hostname}:{port}", "voice": "", "speaker": "", "language": ""}


SERVICE = TtsService(
    name=NAME,
    title="Wyoming",
    settings=Settings,
    client=lambda settings, url, api_key: Client(settings, url),
    check=check,
    # Not every server answers pings; TCP detects a lost peer.
    keepalive=KeepaliveTiming(ping_seconds=None),
    url_schemes=SCHEMES,
    local_settings=_local_settings,
)

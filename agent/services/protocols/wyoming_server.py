"""Implements the server side of Wyoming for speech and for transcription, without sockets.

Sources: the package ``wyoming`` 1.10.2 and Home Assistant 2024.3 (``components/wyoming/{tts,stt,data}.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Message,
    Text,
    Transcript,
)
from agent.services.protocols.parsing import excerpt
from agent.services.protocols.wyoming import NAME, read_encoding
from agent.services.protocols.wyoming_event import EventError, WyomingEvent, decode_event, encode_event
from agent.system.distinct import distinct
from agent.system.json_text import fix_surrogates, json_type
from agent.system.named_tuple import NamedTuple

VOICE_RATE = 22050
"""Sample rate of the audio that the server sends, in Hz; s16le mono."""


@distinct
class Describe(NamedTuple):
    """The client requests the server's ``info``. Immutable."""


@distinct
class Ping(NamedTuple):
    """The client sends a ping; the pong must repeat its text. Immutable."""

    text: str


Request = Event | Describe | Ping


class Server:
    """The server codec for speech and for transcription. Not thread-safe; owned by the session.

    For a text to speak, ``receive`` returns ``Text`` and ``Flush``; send ``Audio`` and ``Flush`` in response. For audio
    to transcribe, ``receive`` returns ``Audio`` and ``End``; send ``Transcript`` and ``End`` in response.

    Attributes:
        voice, language: The requested voice and language for the ``Text`` events that follow; empty: the default.
        encoding: The encoding of the received audio.
    """

    service = NAME

    def __init__(self) -> None:
        self.voice = self.language = ""
        self.encoding = Encoding("raw", 16000)
        self._is_streaming = False  # inside a streamed text
        self._owes_stopped = False  # a streamed text has ended, and synthesize-stopped is not sent yet
        self._has_audio = False  # whether audio-start was sent
        self._texts: list[str] = []  # final transcripts of the current audio

    def receive(self, message: bytes) -> list[Request]:
        """Decode a message. Never raises."""
        try:
            event = decode_event(message)
        except EventError as error:
            return [Failure(NAME, excerpt(message), f"an event ({error})")]
        match event.type:
            case "describe":
                return [Describe()]
            case "ping":
                text = event.data.get("text")
                return [Ping(text if isinstance(text, str) else "")]
            case "synthesize":
                # Home Assistant also sends a streamed text as a whole, for servers without streaming.
                return [] if self._is_streaming else self._passage(event)
            case "synthesize-start":
                self._is_streaming = True
                self._select(event)
                return []
            case "synthesize-chunk":
                return self._text(event)
            case "synthesize-stop":
                self._is_streaming, self._owes_stopped = False, True
                return [Flush()]
            case "audio-start":
                return self._format(event)
            case "audio-chunk":
                return self._audio(event)
            case "audio-stop":
                return [End()]
        return []  # transcribe, select-program, and events of other services

    def send(self, event: Event) -> list[Message]:
        """Encode a part of a response."""
        if isinstance(event, Audio):
            return self._send_audio(event.data)
        if isinstance(event, Flush):
            return self._end_audio()
        if isinstance(event, Transcript):
            return self._send_transcript(event) if event.is_final and not event.is_early and event.text else []
        if isinstance(event, End):
            texts, self._texts = self._texts, []
            whole = encode_event("transcript", {"text": " ".join(texts)})
            return [whole, encode_event("transcript-stop")] if texts else [whole]
        if isinstance(event, Failure):
            text = f"{event.received}; expected {event.expected}"
            return [encode_event("error", {"text": text, "code": "failed"})]
        return []

    def _passage(self, event: WyomingEvent) -> list[Request]:
        requests = self._text(event)
        return requests if any(isinstance(each, Failure) for each in requests) else [*requests, Flush()]

    def _text(self, event: WyomingEvent) -> list[Request]:
        text = event.data.get("text")
        if not isinstance(text, str):
            return [Failure(NAME, f"{event.type} with {json_type(text)} as its text", "text")]
        if event.type == "synthesize":
            self._select(event)
        return [Text(fix_surrogates(text))] if text else []

    def _select(self, event: WyomingEvent) -> None:
        voice = event.data.get("voice")
        fields = voice if isinstance(voice, Mapping) else {}
        name, language = fields.get("name"), fields.get("language")
        self.voice = name if isinstance(name, str) else ""
        self.language = language if isinstance(language, str) else ""

    def _format(self, event: WyomingEvent) -> list[Request]:
        encoding = read_encoding(event.data)
        if encoding is None:
            expected = "16-bit samples (width 2), one or two channels, and a rate"
            return [Failure(NAME, f"{event.type} with {excerpt(str(dict(event.data)))}", expected)]
        self.encoding = encoding
        return []

    def _audio(self, event: WyomingEvent) -> list[Request]:
        # Each chunk contains its format, and some clients send no audio-start.
        failure = self._format(event)
        return failure or ([Audio(event.payload, self.encoding.sample_rate)] if event.payload else [])

    def _send_audio(self, data: bytes) -> list[Message]:
        if not data:
            return []
        format_ = {"rate": VOICE_RATE, "width": 2, "channels": 1}
        messages: list[Message] = [] if self._has_audio else [encode_event("audio-start", {**format_, "timestamp": 0})]
        self._has_audio = True
        return [*messages, encode_event("audio-chunk", format_, data)]

    def _end_audio(self) -> list[Message]:
        messages: list[Message] = []
        if self._has_audio or not self._owes_stopped:
            messages.append(encode_event("audio-stop"))
        if self._owes_stopped:
            messages.append(encode_event("synthesize-stopped"))
        self._has_audio = self._owes_stopped = False
        return messages

    def _send_transcript(self, transcript: Transcript) -> list[Message]:
        messages: list[Message] = [] if self._texts else [encode_event("transcript-start")]
        piece = f" {transcript.text}" if self._texts else transcript.text
        self._texts.append(transcript.text)
        return [*messages, encode_event("transcript-chunk", {"text": piece})]


def encode_pong(ping: Ping) -> bytes:
    """Return the ``pong`` event for a ping."""
    return encode_event("pong", {"text": ping.text})


def encode_info(**programs: object) -> bytes:
    """Return an ``info`` event with the given programs by kind. Other kinds get empty lists, which clients expect."""
    kinds = ("asr", "tts", "handle", "intent", "wake", "mic", "snd")
    return encode_event("info", {**{kind: [] for kind in kinds}, **programs})

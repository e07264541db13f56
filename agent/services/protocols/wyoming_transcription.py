"""Implements the client side of Wyoming for transcription: 16 kHz audio to a recognizer, its transcript back.

Sources: the package ``wyoming`` 1.10.2 (``asr.py``, ``audio.py``) and the server ``wyoming-faster-whisper`` 3.8.1.
"""

from __future__ import annotations

from agent.services.protocols.answers import Answers, LateAnswers
from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Handshake,
    Log,
    Message,
    Transcript,
)
from agent.services.protocols.handshake import describe_close
from agent.services.protocols.parsing import excerpt
from agent.services.protocols.transcription import NAME, SAMPLE_RATE, read_text
from agent.services.protocols.wyoming import IGNORED_EVENTS, read_event, reported_error, with_port
from agent.services.protocols.wyoming_event import WyomingEvent, encode_event
from agent.services.protocols.wyoming_info import InfoError, Program, name_some, read_info

CHUNK_BYTES = 2 * SAMPLE_RATE // 10
"""Most bytes of audio in one ``audio-chunk``: 0.1 s."""

_FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


class Client:
    """The client codec: one connection is one session, ended by ``audio-stop``.

    The server transcribes all audio before it answers the end mark with one ``transcript``. A server with streaming
    sends the text in ``transcript-chunk`` events before; the codec returns these as partial transcripts.
    Not thread-safe; owned by the recognizer thread.

    Args:
        url: The URL; the default port is added if it has none.
        model: Name of a model; empty: the server's default.
        language: Language of the speech; empty: the server's default.

    Attributes:
        answers, transcribes_until_close, offers_early_finals, has_final_after_eof, burst_bytes, message_count: As in
            ``transcription.Client``.
    """

    service = NAME
    encoding = Encoding("raw", SAMPLE_RATE)
    max_idle_seconds: float | None = None
    is_single_use = False
    receive_timeout_seconds: float | None = None
    transcribes_until_close = True
    offers_early_finals = False
    burst_bytes = SAMPLE_RATE * 2

    def __init__(self, url: str, model: str = "", language: str = "") -> None:
        self.answers: Answers = LateAnswers()
        self.has_final_after_eof = False
        self.message_count = 0
        self._url, self._model, self._language = with_port(url), model, language
        self._program: str | None = None  # the program to select before the request
        self._is_opened = self._end_sent = self._is_over = False
        self._text = ""  # text of the streamed transcript so far
        self._has_text = False  # whether the session has a transcript

    def handshake(self) -> Handshake:
        return Handshake(self._url)

    def opening(self) -> list[Message]:
        """Return the request for ``info``; pass the response to ``receive_opening``."""
        return [encode_event("describe")]

    def receive_opening(self, message: bytes) -> None:
        """Read the server's ``info`` and select a program. Raises ``InfoError`` if the server cannot be used."""
        programs = read_info(message).asr
        if not programs:
            raise InfoError("no speech recognizer", "a server that recognizes speech: check url")
        self._select(programs)

    def send(self, event: Event) -> list[Message]:
        if self._end_sent:
            return []
        if isinstance(event, Audio):
            return [*self._begin(), *_chunks(event.data)]
        if isinstance(event, End):
            self._end_sent = True
            return [encode_event("audio-stop")] if self._is_opened else []
        return []

    def receive(self, message: Message) -> list[Event]:
        if self._is_over:
            return []
        self.message_count += 1
        event = read_event(NAME, message)
        if isinstance(event, Failure):
            return [event]
        if event.type == "transcript":
            return self._final(event, event.data.get("text"))
        if event.type == "transcript-chunk":
            return self._partial(event)
        if event.type == "transcript-stop":
            return self._end() if self._has_text else self._final(event, self._text)
        if event.type == "error":
            self._is_over = True
            return [reported_error(NAME, event)]
        known = event.type in IGNORED_EVENTS or event.type in ("transcript-start", "voice-started", "voice-stopped")
        return [] if known else [Log(event.type)]

    def receive_timeout(self) -> list[Event]:
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._is_over:
            return []
        if self._end_sent and (self._has_text or not self._is_opened):
            return self._end()
        self._is_over = True
        expected = "the transcript" if self._end_sent else "the connection to last until audio-stop"
        return [Failure(NAME, describe_close(code, reason), expected, status=code)]

    def _select(self, programs: tuple[Program, ...]) -> None:
        usable = programs
        if self._model:
            usable = tuple(each for each in programs if not each.models or each.has_model(self._model))
            if not usable:
                names = [model.name for each in programs for model in each.models]
                raise InfoError(f"the models {name_some(names)}", f"the model {excerpt(self._model)}")
        if self._language:
            speaking = tuple(each for each in usable if each.supports_language(self._language))
            if not speaking:
                languages = [language for each in usable for language in each.languages]
                raise InfoError(f"the languages {name_some(languages)}", excerpt(self._language))
            usable = speaking
        if usable[0] is not programs[0]:
            self._program = usable[0].name

    def _begin(self) -> list[Message]:
        if self._is_opened:
            return []
        self._is_opened = True
        request = {"name": self._model, "language": self._language}
        messages = [] if self._program is None else [encode_event("select-program", {"name": self._program})]
        messages.append(encode_event("transcribe", {name: value for name, value in request.items() if value}))
        return [*messages, encode_event("audio-start", {**_FORMAT, "timestamp": 0})]

    def _partial(self, event: WyomingEvent) -> list[Event]:
        piece = event.data.get("text")
        if isinstance(piece, str):
            self._text += piece
        text = read_text(self._text) or ""
        return [Transcript(text, is_final=False)] if text else []

    def _final(self, event: WyomingEvent, value: object) -> list[Event]:
        text = read_text(value)
        if text is None:
            return [Failure(NAME, f"{event.type} without text", "a transcript with text", fatal=False)]
        self._text, self._has_text = "", True
        self.has_final_after_eof = self.has_final_after_eof or self._end_sent
        final = Transcript(text, is_final=True)
        return [final, *self._end()] if self._end_sent else [final]

    def _end(self) -> list[Event]:
        if not self._end_sent:
            return []
        self._is_over = True
        return [End()]


def _chunks(pcm: bytes) -> list[Message]:
    pieces = [pcm[start : start + CHUNK_BYTES] for start in range(0, len(pcm), CHUNK_BYTES)]
    return [encode_event("audio-chunk", _FORMAT, piece) for piece in pieces]

"""Implements the transcription protocol: raw 16 kHz audio to the service, partial and final transcripts back.

Sources: melvin-asr's ``docs/websocket-api.md`` (commit 46e7e3f, June 2024). The export ID as bare text, the plain-text
messages and the key in the first message were measured with the code of that commit and of later ones (d3284fa).
vosk-server (c2e82f0, measured) has nearly the same messages (``dialect="vosk"``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from agent.services.protocols.answers import Answers, FrameAnswers, LateAnswers, WindowAnswers
from agent.services.protocols.codec import (
    Audio,
    EarlyFinal,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Handshake,
    Log,
    Message,
    Transcript,
    Word,
)
from agent.services.protocols.handshake import describe_close, keys_match
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, json_type, parse_json

NAME = "transcription"
SAMPLE_RATE = 16000
"""In Hz; the audio is s16le mono."""
MIN_AUDIO_BYTES = SAMPLE_RATE * 2 // 10
"""Size of the shortest audio message: 0.1 s."""
MAX_AUDIO_BYTES = SAMPLE_RATE * 2
"""Size of the longest audio message, without the silence of a ``Flush``: 1 s."""

LATE_ANSWERS = ("X-Voice-Agent-Transcripts", "until-close")
"""The response header of a server that transcribes all audio before it answers ``eof``, so that the client need not
wait before it sends ``eof``. The word times of this server are correct positions in the audio."""

EARLY_FINALS = ("X-Voice-Agent-Early-Finals", "yes")
"""The response header of a server that answers ``{"final": 1}`` with an early final: a final of the audio since the
last final, marked with ``"early": true``. It holds if no more speech follows; otherwise the server sends the usual
final later."""

# The plain-text messages of melvin-asr, copied from its source code.
UNKNOWN_CONTROL = "control message unknown"
NO_WORKER = "No transcription workers available. Retrying in 10 seconds"
KEY_REFUSED = "Provided api key is invalid"
INVALID_JSON = "Initial websocket message contained invalid json"
NOT_TEXT = "Initial message was not text and therefore did not match the expected auth format"

_EXPORT_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SPACES = re.compile("  +")
_RETRY = re.compile(r"[Rr]etrying in (\d{1,4}) second")
_DIALECTS = ("melvin", "vosk")
_ENCODING = Encoding("raw", SAMPLE_RATE)
_EXPORT_SECONDS = 30.0
_WORD_TIME_ERROR_SECONDS = 0.1
"""Inaccuracy of word times. melvin-asr (d3284fa) allows the same value when it compares transcriptions."""
_NUMBERS = (("start", None), ("end", None), ("conf", 1.0))


def read_text(value: object) -> str | None:
    """Return a text with single spaces between its words; ``None`` if the value is not text.

    melvin-asr (d3284fa) sends double spaces: its words begin with a space, and it joins them with spaces.
    """
    return _SPACES.sub(" ", fix_surrogates(value)).strip() if isinstance(value, str) else None


def read_words(result: object) -> tuple[tuple[Word, ...], bool]:
    """Return the valid words of ``result``, and whether it contains invalid ones. ``None`` is an empty result."""
    if result is None:
        return (), False
    if not isinstance(result, list):
        return (), True
    words: list[Word] = []
    for entry in result:
        word = _word(entry)
        if word is not None:
            words.append(word)
    return tuple(words), len(words) < len(result)


def write_transcript(transcript: Transcript) -> str:
    """Encode a transcript as melvin-asr does: indented JSON in ASCII, with a space before the text."""
    text = transcript.text
    if text and not text.startswith(" "):
        text = " " + text
    fields: dict[str, object] = {"partial": text}
    if transcript.is_final:
        result = [
            {"conf": word.confidence, "start": word.start_seconds, "end": word.end_seconds, "word": word.word}
            for word in transcript.words
        ]
        fields = {"result": result, "text": text, **({"early": True} if transcript.is_early else {})}
    return json.dumps(fields, indent=2)


def _word(entry: object) -> Word | None:
    if not isinstance(entry, dict):
        return None
    word = read_text(entry.get("word"))
    numbers = (default if entry.get(name) is None else entry[name] for name, default in _NUMBERS)
    start, end, confidence = map(_number, numbers)
    if word is None or start is None or end is None or confidence is None:
        return None
    return Word(word, start, end, confidence)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e9 else None


class Client:
    """The client codec: one connection is one session, ended by ``eof``.

    Audio is sent in messages of 0.1 to 1 s with an even number of bytes. Less than 0.1 s is held back until more
    arrives. After ``eof`` the server sends the export ID, closes the connection, or sends nothing. In each case the
    codec returns the last partial without a final as a final (melvin-asr sends none after ``eof``), and then ``End``.
    The key, if any, is sent in the first message.

    At ``eof`` melvin-asr drops the audio that it has not transcribed yet. So the owner sends a ``Flush`` before ``End``
    and waits until ``answers.is_complete``. The ``Flush`` encodes to the amount of silence after which the server sends
    a final for all audio (measured). The silence is one message, because the server would transcribe again for each
    second that arrives in a message of its own.

    With ``dialect="vosk"`` the first message contains the sample rate, and the end mark is ``{"eof" : 1}`` in exactly
    this spelling (measured: vosk-server closes with 1011 for any other). A ``Flush`` encodes to nothing, because
    vosk-server needs no silence. It answers the end mark with a final, and the codec then returns ``End``. Not
    thread-safe; owned by the recognizer thread.

    Args:
        url: The URL.
        api_key: The key, which servers since March 2025 accept; ``None``: no key is sent.
        dialect: ``melvin`` or ``vosk``.
        needs_export: Whether the caller needs the export ID. The server sends this ID after the last final, so no early
            final is requested.

    Attributes:
        answers: Which audio the service has answered so far.
        transcribes_until_close: Whether the server transcribes all audio before it answers ``eof`` (see
            ``LATE_ANSWERS``).
        offers_early_finals: Whether the server answers an ``EarlyFinal``, so that the codec sends it (see
            ``EARLY_FINALS``).
        has_final_after_eof: Whether a final has arrived after ``eof``.
        burst_bytes: The owner joins queued frames to messages of up to this length; 0: it does not join frames.
            melvin-asr (d3284fa) transcribes again for each message in its queue, so few long messages are faster.
        message_count: The number of received messages.

    Raises:
        ValueError: The dialect is unknown.
    """

    service = NAME
    encoding: Encoding = _ENCODING
    max_idle_seconds: float | None = None
    is_single_use = False

    def __init__(
        self, url: str, api_key: str | None = None, dialect: str = "melvin", *, needs_export: bool = False
    ) -> None:
        if dialect not in _DIALECTS:
            raise ValueError(f"transcription supports the dialects {' and '.join(_DIALECTS)}, not {excerpt(dialect)}")
        self.receive_timeout_seconds: float | None = None
        self.has_final_after_eof = False
        self._url, self._key, self._needs_export = url, api_key, needs_export
        self._is_vosk = dialect == "vosk"
        self.answers: Answers = FrameAnswers() if self._is_vosk else WindowAnswers()
        self.transcribes_until_close = False
        self.offers_early_finals = False
        self.burst_bytes = 0 if self._is_vosk else MAX_AUDIO_BYTES
        self.message_count = 0
        self._is_opened = False
        self._audio = bytearray()
        self._partial = ""  # the last partial without a final
        self._last_word: Word | None = None  # of the last final with words
        self._has_space = False  # whether a partial began with a space
        self._eof_sent = False
        self._is_over = False  # End or a fatal Failure was returned

    def handshake(self) -> Handshake:
        return Handshake(self._url)

    def receive_handshake(self, headers: Mapping[str, str]) -> None:
        """Read the headers of the response to the handshake; their names are in lower case."""
        name, value = LATE_ANSWERS
        if headers.get(name.lower()) == value:
            self.transcribes_until_close, self.answers = True, LateAnswers()
        name, value = EARLY_FINALS
        self.offers_early_finals = headers.get(name.lower()) == value and not self._needs_export

    def send(self, event: Event) -> list[Message]:
        messages = self._encode(event)
        for message in messages:
            if isinstance(message, bytes):
                self.answers.add_audio(len(message))
        if messages and not self._is_opened:
            self._is_opened = True
            return [*self._opening(), *messages]
        return messages

    def _encode(self, event: Event) -> list[Message]:
        messages: list[Message] = []
        if self._eof_sent:
            return messages
        if isinstance(event, Audio):
            self._audio += event.data
            messages += self._full_messages()
        elif isinstance(event, End):
            messages += [*self._remainder(), '{"eof" : 1}' if self._is_vosk else "eof"]
            self._eof_sent = True
            # melvin-asr transcribes in its event loop, so queued audio delays the export ID and pongs (measured: 6 s).
            self.receive_timeout_seconds = None if self._is_over else _EXPORT_SECONDS
        elif isinstance(event, EarlyFinal) and self.offers_early_finals and (self._is_opened or self._audio):
            messages += [*self._remainder(), '{"final": 1}']
        elif isinstance(event, Flush) and (self._is_opened or self._audio):
            rest = b"".join(self._remainder())
            # The rest counts as well, but is not in ``answers`` yet.
            size = self.answers.padding_bytes - len(rest)
            padded = rest + bytes(max(0, size))
            messages += [padded] if padded else []
        return messages

    def receive(self, message: Message) -> list[Event]:
        if self._is_over:
            return []
        self.message_count += 1
        if isinstance(message, bytes):
            return [self._refuse(message, "a text message")]
        text = message.strip()
        if not text.startswith("{"):
            return self._plain_text(text)
        fields = parse_json(text)
        if isinstance(fields, str):
            return [self._refuse(message, f"partial, or result and text, in a JSON object ({fields})")]
        return self._transcript(message, fields)

    def receive_timeout(self) -> list[Event]:
        return [] if self.receive_timeout_seconds is None else self._end(None)

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._is_over:
            return []
        if self._eof_sent and code in (1000, 1005):
            return self._end(None)
        received = describe_close(code, reason, self._key)
        expected = "the rest of the transcript" if self._eof_sent else "the connection to last until eof"
        self._is_over = True
        self.receive_timeout_seconds = None
        return [Failure(NAME, received, expected, status=code)]

    def _opening(self) -> list[Message]:
        messages: list[Message] = []
        if self._key:
            messages.append(json.dumps({"Authorization": self._key}))
        if self._is_vosk:
            messages.append(json.dumps({"config": {"sample_rate": SAMPLE_RATE}}))
        return messages

    def _full_messages(self) -> list[Message]:
        messages: list[Message] = []
        while len(self._audio) >= MIN_AUDIO_BYTES:
            size = min(MAX_AUDIO_BYTES, len(self._audio) // 2 * 2)
            messages.append(bytes(self._audio[:size]))
            del self._audio[:size]
        return messages

    def _remainder(self) -> list[bytes]:
        size = len(self._audio) // 2 * 2
        rest = bytes(self._audio[:size])
        # Half a sample is discarded: for an odd length, melvin-asr closes with 1000 and sends no export ID (measured).
        self._audio.clear()
        return [rest] if rest else []

    def _plain_text(self, text: str) -> list[Event]:
        if not text:
            return []
        name = text.strip('"')
        if _EXPORT_ID.fullmatch(name):
            if self._eof_sent:
                return self._end(name)
            return [self._refuse(text, "an export ID only after eof")]
        if text.lower().startswith(UNKNOWN_CONTROL):
            return [Log(text)]
        if text.startswith("No transcription workers available"):
            match = _RETRY.search(text)
            delay = float(match.group(1)) if match else 10.0
            return [Failure(NAME, excerpt(text), "a free worker", fatal=False, retry_after_seconds=delay)]
        if text.startswith((KEY_REFUSED, "Initial websocket message", "Initial message was not text")):
            self._is_over = True
            self.receive_timeout_seconds = None
            received = excerpt(text, self._key)
            return [Failure(NAME, received, "the key to be accepted: check it", permanent=True, status=401)]
        return [self._refuse(text, "partial, or result and text, in a JSON object")]

    def _transcript(self, message: str, fields: dict[str, object]) -> list[Event]:
        alternatives = fields.get("alternatives")
        if isinstance(alternatives, list) and alternatives and isinstance(alternatives[0], dict):
            fields = alternatives[0]  # vosk-server with VOSK_ALTERNATIVES: the first is the best
        if fields.get("text") is None and fields.get("partial") is not None:
            partial = read_text(fields["partial"])
            if partial is None:
                return [self._refuse(message, f"text in partial, not {json_type(fields['partial'])}")]
            self.answers.add_partial(has_words=bool(partial))
            self._has_space = self._has_space or str(fields["partial"]).startswith(" ")
            if self._partial and not partial and not (self._is_vosk or self.transcribes_until_close):
                return []  # melvin-asr (d3284fa) sends an empty partial if all words are confirmed and not final yet
            self._partial = partial
            return [Transcript(partial, is_final=False)]
        text = read_text(fields.get("text"))
        if text is None:
            is_unknown = fields.get("text") is None
            return [self._refuse(message, "partial, or result and text, in a JSON object", is_unknown=is_unknown)]
        words, has_invalid = read_words(fields.get("result"))
        if self.offers_early_finals and fields.get("early") is True:
            return [Transcript(text, is_final=True, words=words, is_early=True)]
        # The first version begins each text with a space; later versions begin only partials with a space.
        is_spaced = str(fields["text"]).startswith(" ")
        is_bare = bool(text) and self._has_space and not is_spaced
        rest = "" if is_spaced else self._rest_of_partial(text)
        is_repeated = is_bare and self._repeats_last_word(words)
        self._last_word = words[-1] if words else self._last_word
        if is_repeated:
            words, text = words[1:], " ".join(word.word for word in words[1:])
        events: list[Event] = [Transcript(text, True, words)] if text or words or self._partial else []
        events += [Transcript(rest, False)] if rest else []
        self._partial = rest
        self.has_final_after_eof = self.has_final_after_eof or self._eof_sent
        # vosk-server answers each audio message and then, with the last final, the end mark.
        is_last = self._is_vosk and self._eof_sent and self.answers.is_complete and not self.transcribes_until_close
        self.answers.add_final(is_from_words=bool(rest or is_bare))
        if has_invalid:
            events.append(self._refuse(message, "word, start, end and conf in every element of result"))
        return [*events, *self._end(None)] if is_last else events

    def _rest_of_partial(self, final: str) -> str:
        """Return the words of the last partial that follow the words of a final.

        melvin-asr (d3284fa) sends a partial with all words and then the confirmed words as a final, so the other words
        remain a partial. A final of the first version covers all audio of the partials before it, so words
        that the final lacks are dropped.
        """
        if self._is_vosk or self.transcribes_until_close:
            return ""
        words, partial = final.split(), self._partial.split()
        return " ".join(partial[len(words) :]) if words and partial[: len(words)] == words else ""

    def _repeats_last_word(self, words: tuple[Word, ...]) -> bool:
        """Return whether a final begins with the last word of the previous one.

        melvin-asr (d3284fa) sends a word again if a later transcription moves the end of the word. If the user repeats
        a word, the second one starts after the end of the first one, within the inaccuracy of word times.
        """
        last = self._last_word
        return (
            last is not None
            and bool(words)
            and words[0].word == last.word
            and words[0].start_seconds < last.end_seconds - _WORD_TIME_ERROR_SECONDS
        )

    def _tail(self) -> list[Event]:
        partial, self._partial = self._partial, ""
        return [Transcript(partial, is_final=True)] if partial else []

    def _end(self, export_id: str | None) -> list[Event]:
        self.receive_timeout_seconds = None
        self._is_over = True
        return [*self._tail(), End(export_id)]

    def _refuse(self, message: Message, expected: str, *, is_unknown: bool = False) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False, is_unknown=is_unknown)


class Server:
    """The server codec: behaves as melvin-asr, and serves clients of melvin-asr and of vosk-server.

    ``receive`` returns ``Flush`` for a reset of the client, ``EarlyFinal`` for ``{"final": 1}``, and ``Log`` for an
    unknown text message. ``send`` encodes a ``Log``, and a ``Failure`` that is not fatal, as the plain-text message for
    an unknown control message. It encodes a ``Failure`` with ``retry_after_seconds`` as the message that all workers
    are busy. Not thread-safe; owned by the connection's thread.

    Args:
        api_key: The key that the first message must contain; ``None``: a key is accepted and ignored.

    Attributes:
        sample_rate, encoding: 16000 Hz, or the rate in the client's ``{"config": ...}``, 4000 to 192000 Hz. A config
            with another rate is refused as an unknown message.
        answers_each_audio: Whether the client has sent a ``config``, as clients of vosk-server do. Such a client
            expects one transcript for each audio message, also if it is empty or ends inside a sample.
    """

    service = NAME

    def __init__(self, api_key: str | None = None) -> None:
        self._key = api_key
        self._is_first = True
        self._refusal: str | None = None
        self._is_over = False
        self.sample_rate = SAMPLE_RATE
        self.encoding = _ENCODING
        self.answers_each_audio = False
        self._fragment = b""  # of a sample, from a client of vosk-server

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Accept any path; the key is in the first message."""
        return None

    def receive(self, message: Message) -> list[Event]:
        if self._is_over:
            return []
        is_first, self._is_first = self._is_first, False
        if is_first:
            events = self._authorize(message)
            if events is not None:
                return events
        if isinstance(message, bytes):
            if self.answers_each_audio:
                return [Audio(self._whole_samples(message))]
            if len(message) % 2:
                self._is_over = True
                return [Failure(NAME, excerpt(message), "whole 16-bit samples")]
            return [Audio(message)] if message else []
        if "eof" in message:  # melvin-asr searches the substring (measured)
            self._is_over = True
            return [End()]
        fields = parse_json(message) if message.lstrip().startswith("{") else ""
        if isinstance(fields, dict):
            config = fields.get("config")
            if isinstance(config, dict) and self._configure(config):
                return []
            if "reset" in fields:
                self._fragment = b""  # the next audio message begins with a whole sample
                return [Flush()]
            if fields.get("final") == 1:
                return [EarlyFinal()]
        return [Log(message)]

    def send(self, event: Event) -> list[Message]:
        if isinstance(event, Transcript):
            return [write_transcript(event)]
        if isinstance(event, End):
            return [event.export_id] if event.export_id else []
        if isinstance(event, Log):
            return [UNKNOWN_CONTROL]
        if isinstance(event, Failure):
            if event.retry_after_seconds is not None:
                return [NO_WORKER]
            if event.fatal:
                return [] if self._refusal is None else [self._refusal]
            return [UNKNOWN_CONTROL]
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return a fatal failure if the client has disconnected without ``eof``."""
        if self._is_over:
            return []
        self._is_over = True
        return [Failure(NAME, describe_close(code), "eof before the connection ends", status=code)]

    def _whole_samples(self, data: bytes) -> bytes:
        data = self._fragment + data
        length = len(data) - len(data) % 2
        self._fragment = data[length:]
        return data[:length]

    def _authorize(self, message: Message) -> list[Event] | None:
        """Check the key in the first message. Return the events, or ``None`` if it is an ordinary message."""
        fields = parse_json(message) if isinstance(message, str) and message.lstrip().startswith("{") else ""
        key = fields.get("Authorization") if isinstance(fields, dict) else None
        if not self._key:
            return [] if isinstance(key, str) else None
        if isinstance(message, bytes):
            self._refusal = NOT_TEXT
        elif not isinstance(key, str):
            self._refusal = INVALID_JSON
        elif not keys_match(key, self._key):
            self._refusal = KEY_REFUSED
        else:
            return []
        self._is_over = True
        received = "another first message" if key is None else "a wrong key"
        return [Failure(NAME, received, 'its key as {"Authorization": ...} first', permanent=True, status=401)]

    def _configure(self, config: dict[str, object]) -> bool:
        rate = config.get("sample_rate", self.sample_rate)
        if isinstance(rate, str) and rate.isascii() and rate.isdigit() and len(rate) < 8:
            rate = int(rate)  # bbb-transcription-controller sends it as text
        elif isinstance(rate, float) and rate.is_integer():
            rate = int(rate)
        if isinstance(rate, bool) or not isinstance(rate, int) or not 4000 <= rate <= 192000:
            return False
        self.sample_rate = rate
        self.encoding = Encoding("raw", rate)
        self.answers_each_audio = True
        return True

"""The transcription protocol: bare 16 kHz sound out, partials and finals in, ``eof`` at the end.

Source: the service's page "WebSocket" (melvin-asr of June 2024), what that server and its successors do on the wire
(the export ID as bare text, plain-text messages, the key in the first message), and vosk-server, whose messages are
nearly the same (``dialect="vosk"``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from agent.services.protocols.codec import (
    Audio,
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
from agent.services.protocols.handshake import keys_match
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, json_type, parse_json


def read_text(value: object) -> str | None:
    """The text without the white space around it; ``None`` where it is no text."""
    return fix_surrogates(value).strip() if isinstance(value, str) else None


def read_words(result: object) -> tuple[tuple[Word, ...], bool]:
    """The words that can be read, and whether something was there that cannot. No ``result`` at all is no words."""
    if result is None:
        return (), False
    if not isinstance(result, list):
        return (), True
    words: list[Word] = []
    for said in result:
        word = _word(said)
        if word is not None:
            words.append(word)
    return tuple(words), len(words) < len(result)


def write_transcript(transcript: Transcript) -> str:
    """The message as the server writes it: indented, ASCII only, the text with a space before it."""
    text = transcript.text
    if text and not text.startswith(" "):
        text = " " + text
    told: dict[str, object] = {"partial": text}
    if transcript.is_final:
        result = [
            {"conf": word.confidence, "start": word.start_seconds, "end": word.end_seconds, "word": word.word}
            for word in transcript.words
        ]
        told = {"result": result, "text": text}
    return json.dumps(told, indent=2)


def _word(said: object) -> Word | None:
    if not isinstance(said, dict):
        return None
    word = read_text(said.get("word"))
    start, end, confidence = (_number(said.get(name, default)) for name, default in _NUMBERS)
    if word is None or start is None or end is None or confidence is None:
        return None
    return Word(word, start, end, confidence)


_NUMBERS = (("start", None), ("end", None), ("conf", 1.0))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e9 else None


NAME = "transcription"
SAMPLE_RATE = 16000
MIN_AUDIO_BYTES = SAMPLE_RATE * 2 // 10
MAX_AUDIO_BYTES = SAMPLE_RATE * 2
UNKNOWN_CONTROL = "control message unknown"
NO_WORKER = "No transcription workers available. Retrying in 10 seconds"
KEY_REFUSED = "Provided api key is invalid"
INVALID_JSON = "Initial websocket message contained invalid json"
NOT_TEXT = "Initial message was not text and therefore did not match the expected auth format"

_EXPORT_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_RETRY = re.compile(r"[Rr]etrying in (\d{1,4}) second")
_DIALECTS = ("melvin", "vosk")
_ENCODING = Encoding("raw", SAMPLE_RATE)


class Client:
    """Listens through a transcription service: one connection is one session, ended by ``eof``.

    Sound goes out in even-length messages of 0.1 to 1 s; what is shorter waits for more. After ``eof`` comes the export
    ID, or a close, or nothing at all: whichever it is, what the last partial said is first given as a final of its own
    where no final followed it (melvin sends none after ``eof``), and then the ``End``.
    ``has_final_after_eof``: a final arrived after ``eof``.
    The key, where there is one, goes out as the first message, in front of the first sound or of ``eof``.
    ``dialect="vosk"`` says the sample rate first and ends with the one string that vosk-server takes for an end.
    """

    service = NAME
    encoding: Encoding = _ENCODING
    max_idle_seconds: float | None = None
    is_single_use = False

    def __init__(self, url: str, api_key: str | None = None, dialect: str = "melvin") -> None:
        if dialect not in _DIALECTS:
            raise ValueError(f"transcription knows the dialects {' and '.join(_DIALECTS)}, not {excerpt(dialect)}")
        self.receive_timeout_seconds: float | None = None
        self.has_final_after_eof = False
        self._url, self._key = url, api_key
        self._vosk = dialect == "vosk"
        self._opened = False
        self._sound = bytearray()
        self._partial = ""  # the last one that no final has followed
        self._eof_sent = False
        self._over = False  # the End, or a fatal Failure, has been given

    def handshake(self) -> Handshake:
        return Handshake(self._url)

    def send(self, event: Event) -> list[Message]:
        messages: list[Message] = []
        if self._eof_sent:
            return messages
        if isinstance(event, Audio):
            self._sound += event.data
            messages += self._ripe()
        elif isinstance(event, End):
            messages += [*self._rest(), '{"eof" : 1}' if self._vosk else "eof"]
            self._eof_sent = True
            # A slow server transcribes what it has before it answers, and its pings wait too.
            self.receive_timeout_seconds = None if self._over else 30.0
        elif isinstance(event, Flush) and self._vosk:
            messages += [*self._rest(), '{"reset" : 1}']
        if messages and not self._opened:
            self._opened = True
            return [*self._opening(), *messages]
        return messages

    def receive(self, message: Message) -> list[Event]:
        if self._over:
            return []
        if isinstance(message, bytes):
            return [self._refuse(message, "a text message")]
        said = message.strip()
        if not said.startswith("{"):
            return self._plain(said)
        found = parse_json(said)
        if isinstance(found, str):
            return [self._refuse(message, f"partial, or result and text, in a JSON object ({found})")]
        return self._transcript(message, found)

    def receive_timeout(self) -> list[Event]:
        return [] if self.receive_timeout_seconds is None else self._end(None)

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._over:
            return []
        if self._eof_sent and code in (1000, 1005):
            return self._end(None)
        came = f"the close code {code}{' ' + excerpt(reason, self._key) if reason else ''}"
        expected = "the rest of the transcript" if self._eof_sent else "the connection to last until eof"
        tail = self._tail() if self._eof_sent else []
        self._over = True
        self.receive_timeout_seconds = None
        return [*tail, Failure(NAME, came, expected, status=code)]

    def _opening(self) -> list[Message]:
        messages: list[Message] = []
        if self._key:
            messages.append(json.dumps({"Authorization": self._key}))
        if self._vosk:
            messages.append(json.dumps({"config": {"sample_rate": SAMPLE_RATE}}))
        return messages

    def _ripe(self) -> list[Message]:
        messages: list[Message] = []
        while len(self._sound) >= MIN_AUDIO_BYTES:
            size = min(MAX_AUDIO_BYTES, len(self._sound) // 2 * 2)
            messages.append(bytes(self._sound[:size]))
            del self._sound[:size]
        return messages

    def _rest(self) -> list[Message]:
        size = len(self._sound) // 2 * 2
        rest = bytes(self._sound[:size])
        self._sound.clear()  # half a sample is no sound, and an odd length ends a session on the server
        return [rest] if rest else []

    def _plain(self, said: str) -> list[Event]:
        if not said:
            return []
        name = said.strip('"')
        if _EXPORT_ID.fullmatch(name):
            if self._eof_sent:
                return self._end(name)
            return [self._refuse(said, "an export ID only after eof")]
        if said.lower().startswith(UNKNOWN_CONTROL):
            return [Log(said)]
        if said.startswith("No transcription workers available"):
            found = _RETRY.search(said)
            patience = float(found.group(1)) if found else 10.0
            return [Failure(NAME, excerpt(said), "a free worker", fatal=False, retry_after_seconds=patience)]
        if said.startswith((KEY_REFUSED, "Initial websocket message", "Initial message was not text")):
            self._over = True
            self.receive_timeout_seconds = None
            came = excerpt(said, self._key)
            return [Failure(NAME, came, "the key to be accepted: check it", permanent=True, status=401)]
        return [self._refuse(said, "partial, or result and text, in a JSON object")]

    def _transcript(self, message: str, found: dict[str, object]) -> list[Event]:
        alternatives = found.get("alternatives")
        if isinstance(alternatives, list) and alternatives and isinstance(alternatives[0], dict):
            found = alternatives[0]  # vosk-server with VOSK_ALTERNATIVES: the best one comes first
        if "text" not in found and "partial" in found:
            partial = read_text(found["partial"])
            if partial is None:
                return [self._refuse(message, f"text in partial, not {json_type(found['partial'])}")]
            self._partial = partial
            return [Transcript(partial, is_final=False)]
        text = read_text(found.get("text"))
        if text is None:
            return [self._refuse(message, "partial, or result and text, in a JSON object")]
        words, unread = read_words(found.get("result"))
        self._partial = ""
        self.has_final_after_eof = self.has_final_after_eof or self._eof_sent
        events: list[Event] = [Transcript(text, True, words)] if text or words else []
        if unread:
            events.append(self._refuse(message, "word, start, end and conf in every element of result"))
        return events

    def _tail(self) -> list[Event]:
        partial, self._partial = self._partial, ""
        return [Transcript(partial, is_final=True)] if partial else []

    def _end(self, export_id: str | None) -> list[Event]:
        self.receive_timeout_seconds = None
        self._over = True
        return [*self._tail(), End(export_id)]

    def _refuse(self, message: Message, expected: str) -> Failure:
        return Failure(NAME, excerpt(message, self._key), expected, fatal=False)


class Server:
    """Transcribes as melvin-asr does, for its clients and for those of vosk-server.

    ``sample_rate`` and ``encoding`` change where a client says a rate of its own (``{"config": ...}``); a rate that is
    not sane is a message of no meaning. A client that resets gives a ``Flush``. A text of no meaning gives a ``Log``,
    and ``send`` of that ``Log``, or of a ``Failure`` that is not fatal, the server's plain answer; a ``Failure`` with
    ``retry_after_seconds`` says that all workers are busy. With ``api_key`` the first message must be today's
    authorisation; without, it is passed over where it comes.
    """

    service = NAME

    def __init__(self, api_key: str | None = None) -> None:
        self._key = api_key
        self._first = True
        self._refusal: str | None = None
        self._over = False
        self.sample_rate = SAMPLE_RATE
        self.encoding = _ENCODING

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Any path will do, and the key comes later."""
        return None

    def receive(self, message: Message) -> list[Event]:
        if self._over:
            return []
        first, self._first = self._first, False
        if first:
            answer = self._authorise(message)
            if answer is not None:
                return answer
        if isinstance(message, bytes):
            if len(message) % 2:
                self._over = True
                return [Failure(NAME, excerpt(message), "whole 16-bit samples")]
            return [Audio(message)] if message else []
        if "eof" in message:
            self._over = True
            return [End()]
        found = parse_json(message) if message.lstrip().startswith("{") else ""
        if isinstance(found, dict):
            config = found.get("config")
            if isinstance(config, dict) and self._configure(config):
                return []
            if "reset" in found:
                return [Flush()]
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
        """A client that leaves without ``eof`` wants no transcript any more."""
        if self._over:
            return []
        self._over = True
        return [Failure(NAME, f"the close code {code}", "eof before the connection ends", status=code)]

    def _authorise(self, message: Message) -> list[Event] | None:
        """The answer to the first message, or ``None`` where it is to be read like any other."""
        found = parse_json(message) if isinstance(message, str) and message.lstrip().startswith("{") else ""
        key = found.get("Authorization") if isinstance(found, dict) else None
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
        self._over = True
        came = "another first message" if key is None else "a wrong key"
        return [Failure(NAME, came, 'its key as {"Authorization": ...} first', permanent=True, status=401)]

    def _configure(self, config: dict[str, object]) -> bool:
        rate = config.get("sample_rate", self.sample_rate)
        if isinstance(rate, str) and rate.isascii() and rate.isdigit() and len(rate) < 8:
            rate = int(rate)  # a known client of both servers sends it as text
        elif isinstance(rate, float) and rate.is_integer():
            rate = int(rate)
        if isinstance(rate, bool) or not isinstance(rate, int) or not 4000 <= rate <= 192000:
            return False
        self.sample_rate = rate
        self.encoding = Encoding("raw", rate)
        return True

"""Implements the client side of Wyoming for wake words: 16 kHz audio to a detector, the detected words back.

Sources: the package ``wyoming`` 1.10.2 (``wake.py``, ``audio.py``) and the server ``wyoming-openwakeword`` 1.8.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.services.protocols.codec import Audio, Detection, Encoding, End, Event, Failure, Handshake, Log, Message
from agent.services.protocols.handshake import describe_close
from agent.services.protocols.wyoming import IGNORED_EVENTS, read_event, reported_error
from agent.services.protocols.wyoming_event import encode_event
from agent.services.protocols.wyoming_info import InfoError, name_some, read_info
from agent.system.json_text import fix_surrogates

NAME = "wake"
DEFAULT_PORT = 10400
SAMPLE_RATE = 16000
_FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


class Client:
    """The client codec: one request without end, during which the server reports each detected word.

    Not thread-safe; owned by the recognizer thread.

    Args:
        url: The URL with its port.
        words: The names of the wake word models.
    """

    service = NAME
    encoding = Encoding("raw", SAMPLE_RATE)
    max_idle_seconds: float | None = None
    is_single_use = False
    receive_timeout_seconds: float | None = None

    def __init__(self, url: str, words: Sequence[str]) -> None:
        self._url, self._words = url, tuple(words)
        self._program: str | None = None  # the program to select before the request
        self._sent_bytes = 0
        self._is_opened = self._has_ended = False

    def handshake(self) -> Handshake:
        return Handshake(self._url)

    def opening(self) -> list[Message]:
        """Return the request for ``info``; pass the response to ``receive_opening``."""
        return [encode_event("describe")]

    def receive_opening(self, message: bytes) -> None:
        """Read the server's ``info`` and select a program. Raises ``InfoError`` if the server cannot be used."""
        programs = read_info(message).wake
        if not programs:
            raise InfoError("no wake words", "a server that finds wake words: check wake.url")
        names = [model.name for each in programs for model in each.models]
        usable = [each for each in programs if all(each.has_model(word) for word in self._words)]
        if not usable:
            missing = [word for word in self._words if word not in names] or self._words
            raise InfoError(f"the wake words {name_some(names)}", f"{name_some(missing)}: correct wake.words")
        if usable[0] is not programs[0]:
            self._program = usable[0].name

    def send(self, event: Event) -> list[Message]:
        if self._has_ended:
            return []
        if isinstance(event, Audio) and event.data:
            at = {"timestamp": self._sent_bytes * 1000 // (2 * SAMPLE_RATE)}
            self._sent_bytes += len(event.data)
            return [*self._begin(), encode_event("audio-chunk", {**_FORMAT, **at}, event.data)]
        if isinstance(event, End):
            self._has_ended = True
            return [encode_event("audio-stop")] if self._is_opened else []
        return []

    def receive(self, message: Message) -> list[Event]:
        event = read_event(NAME, message)
        if isinstance(event, Failure):
            return [event]
        if event.type == "detection":
            name, at = event.data.get("name"), event.data.get("timestamp")
            # The timestamp (ms) is the position of a chunk, or the clock of the server. Only a position is used.
            is_position = isinstance(at, int) and 0 <= at * 2 * SAMPLE_RATE <= 1000 * self._sent_bytes
            word = fix_surrogates(name) if isinstance(name, str) else ""
            return [Detection(word, at / 1000 if is_position else None)]  # type: ignore[operator]
        if event.type == "error":
            return [reported_error(NAME, event)]
        return [] if event.type in ("not-detected", *IGNORED_EVENTS) else [Log(event.type)]

    def receive_timeout(self) -> list[Event]:
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        if self._has_ended:
            return [End()]
        return [Failure(NAME, describe_close(code, reason), "the connection to last until audio-stop", status=code)]

    def _begin(self) -> list[Message]:
        if self._is_opened:
            return []
        self._is_opened = True
        messages = [] if self._program is None else [encode_event("select-program", {"name": self._program})]
        messages.append(encode_event("detect", {"names": list(self._words)}))
        return [*messages, encode_event("audio-start", {**_FORMAT, "timestamp": 0})]

"""Stand-ins for melvin-asr (June 2024 and April 2025) and vosk-server, with a recognizer whose words are exact.

A word is half a second of one sample value; see ``speech``. The servers behave as measured with the real ones:
melvin-asr transcribes in its event loop, drops what is not transcribed at ``eof`` and sends no last final; vosk-server
sends one reply for each message.
"""

from __future__ import annotations

import json
import select
import struct
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, close_frame, frame

BYTES_PER_SECOND = 32000
WORD_SECONDS = 0.5
FIRST_VALUE = 1000
EXPORT_ID = "399e7f744c3e47c3a32f28a19f07739d"
STEP_SAMPLES = 160  # 10 ms
MAX_WAITING = 32  # messages that the websockets library queues


class Spoken(NamedTuple):
    """A word with its position in seconds."""

    text: str
    start: float
    end: float


def speech(seconds: float, pause_after: int = 0, first: int = 0) -> bytes:
    """Return 16 kHz mono s16le of the words ``word0``, ``word1``, ..., with 1 s of silence after some of them."""
    size = int(seconds * BYTES_PER_SECOND) // 2 * 2
    pcm = bytearray()
    number = first
    while len(pcm) < size:
        pcm += struct.pack("<h", FIRST_VALUE + number) * int(WORD_SECONDS * BYTES_PER_SECOND / 2)
        number += 1
        if pause_after and number % pause_after == 0:
            pcm += bytes(BYTES_PER_SECOND)
    return bytes(pcm[:size])


def recognize(pcm: bytes) -> list[Spoken]:
    """Return the words of which more than half is in the audio."""
    values = array("h", pcm[: len(pcm) // 2 * 2])[::STEP_SAMPLES]
    words: list[Spoken] = []
    start = 0
    for at in range(1, len(values) + 1):
        if at < len(values) and values[at] == values[start]:
            continue
        if values[start] >= FIRST_VALUE and at - start > WORD_SECONDS * 50:
            words.append(Spoken(f"word{values[start] - FIRST_VALUE}", start / 100, at / 100))
        start = at
    return words


def words_of(pcm: bytes) -> list[str]:
    return [word.text for word in recognize(pcm)]


class _Server:
    """Reads what is waiting, then runs all tasks, as one iteration of an event loop does. One object per connection.

    Args:
        peer: The connection.
        seconds: The time of one transcription.
        blocks: Whether nothing is read meanwhile. Otherwise pings are answered and audio is taken.
    """

    def __init__(self, peer: Peer, seconds: float, *, blocks: bool = True) -> None:
        self.peer, self.seconds, self._blocks = peer, seconds, blocks
        self.tasks: deque[Callable[[], None]] = deque()
        self._waiting = 0
        self._is_over = False

    def run(self) -> None:
        while not self._is_over:
            if self.tasks and (self._waiting >= MAX_WAITING or not _has_input(self.peer)):
                self._waiting = 0
                for _ in range(len(self.tasks)):
                    self.tasks.popleft()()
                continue
            self._read()

    def _read(self) -> None:
        opcode, data = self.peer.read_frame()
        if opcode == PING:
            self.peer.send(frame(PONG, data))
            self._waiting = MAX_WAITING  # input that the client sends after this pong belongs to the next iteration
        elif opcode == BINARY:
            self._waiting += 1
            self.hear(data)
        elif opcode == TEXT:
            self._is_over = self.control(data.decode())
        else:
            if opcode == CLOSE:
                self.peer.send(frame(CLOSE, data))
            self._is_over = True

    def hear(self, data: bytes) -> None:
        raise NotImplementedError

    def control(self, text: str) -> bool:
        """Return whether the session is over."""
        if "eof" not in text:
            self.peer.text("control message unknown")
            return False
        self.peer.text(EXPORT_ID)
        self.peer.send(close_frame(1000))
        return True

    def compute(self) -> None:
        """Take the time of one transcription."""
        if self._blocks:
            self.peer.over.wait(self.seconds)
            return
        end = time.monotonic() + self.seconds
        while not self._is_over and (rest := end - time.monotonic()) > 0:
            if _has_input(self.peer, rest):
                self._read()
        if self._is_over:
            raise EOFError  # nothing is sent after the end mark


class MelvinServer(_Server):
    """melvin-asr of June 2024 (46e7e3f): a partial for each second and a final for six, from the audio since the final.

    The threshold of the partials grows if the server is late. Its word times are wrong on purpose, as in the original.
    """

    def __init__(self, peer: Peer, seconds: float, *, with_words: bool = True, blocks: bool = True) -> None:
        super().__init__(peer, seconds, blocks=blocks)
        self._with_words = with_words
        self._chunk = self._recent = b""
        self._threshold = 1.0 * BYTES_PER_SECOND
        self._received = self._transcribed = 0

    def hear(self, data: bytes) -> None:
        self._chunk += data
        self._recent += data
        self._received += len(data)
        chunk, recent = self._chunk, self._recent
        if len(chunk) >= 6 * BYTES_PER_SECOND:
            self.tasks.append(lambda: self._transcribe(chunk, recent, is_final=True))
            self._chunk = self._recent = b""
        elif len(recent) >= self._threshold:
            self.tasks.append(lambda: self._transcribe(chunk, recent, is_final=False))
            self._recent = b""

    def _transcribe(self, chunk: bytes, recent: bytes, *, is_final: bool) -> None:
        self.compute()
        late = (self._received - self._transcribed) / BYTES_PER_SECOND - self._threshold / BYTES_PER_SECOND
        if late > 4:
            self._threshold = min(6.0 * BYTES_PER_SECOND, self._threshold * 1.5)
        elif late < 1:
            self._threshold = max(1.0 * BYTES_PER_SECOND, self._threshold * 0.75)
        offset = (self._transcribed - len(recent)) / BYTES_PER_SECOND
        self._transcribed += len(recent)
        words = recognize(chunk)
        text = "".join(f" {word.text}" for word in words)
        if not is_final:
            self.peer.text(json.dumps({"partial": text}, indent=2))
            return
        result = [
            {"conf": 0.9, "start": offset + word.start, "end": offset + word.end, "word": word.text} for word in words
        ]
        self.peer.text(json.dumps({"result": result if self._with_words else [], "text": text}, indent=2))


class CurrentMelvinServer(_Server):
    """melvin-asr of April 2025 (d3284fa): more than six words on which two transcriptions agree become a final.

    The window is transcribed as a whole each time. Finals are sent only when audio arrives. ``eof`` before all tasks
    are done closes the connection without an ID.
    """

    def __init__(self, peer: Peer, seconds: float, *, blocks: bool = True) -> None:
        super().__init__(peer, seconds, blocks=blocks)
        self._window = b""
        self._cut = 0  # bytes that have left the window
        self._since = 0
        self._threshold = 1.0 * BYTES_PER_SECOND
        self._transcribed_at = time.monotonic()
        self._confirmed: list[Spoken] = []
        self._unconfirmed: list[Spoken] = []
        self._final_end = 0.0  # in the session

    def hear(self, data: bytes) -> None:
        self._window += data
        self._since += len(data)
        waited = (time.monotonic() - self._transcribed_at) * BYTES_PER_SECOND
        if self._since >= self._threshold or waited >= self._threshold:
            window = self._window
            self.tasks.append(lambda: self._transcribe(window))
        if len(self._confirmed) > 6:
            self.tasks.append(self._flush)

    def control(self, text: str) -> bool:
        if "eof" in text and self.tasks:
            self.peer.send(close_frame(1000))
            return True
        return super().control(text)

    def _transcribe(self, window: bytes) -> None:
        self.compute()
        words = recognize(window)
        cut_seconds = self._cut / BYTES_PER_SECOND
        text = ""
        if self._unconfirmed:
            text = "  ".join(f" {word.text}" for word in words if word.end + cut_seconds > self._final_end + 0.01)
        self._merge(words)
        self.peer.text(json.dumps({"partial": text}, indent=2))
        self._since = 0
        if len(window) >= 11.25 * BYTES_PER_SECOND or self.seconds >= self._threshold / BYTES_PER_SECOND:
            self._threshold = self.seconds * BYTES_PER_SECOND + 0.25
        self._transcribed_at = time.monotonic()

    def _merge(self, words: list[Spoken]) -> None:
        if self._confirmed:
            words = [word for word in words if word.start > self._confirmed[-1].end - 0.1]
        count = 0
        for old, new in zip(self._unconfirmed, words, strict=False):
            if old.text != new.text:
                break
            count += 1
        self._confirmed += words[:count]
        self._unconfirmed = words[count:]

    def _flush(self) -> None:
        cut_seconds = self._cut / BYTES_PER_SECOND
        words = [word for word in self._confirmed if word.end + cut_seconds > self._final_end + 0.01]
        self._confirmed = []
        if not words:
            return
        self._final_end = words[-1].end + cut_seconds
        excess = len(self._window) - 15 * BYTES_PER_SECOND
        if excess > 0:
            self._cut += excess
            self._window = self._window[excess:]
        result = [{"conf": 0.9, "start": word.start, "end": word.end, "word": word.text} for word in words]
        text = " ".join(word.text for word in words)
        self.peer.text(json.dumps({"result": result, "text": text}, indent=2))


class VoskServer(_Server):
    """vosk-server: a reply for each message, in order; a final after half a second of silence and at the end mark."""

    def __init__(self, peer: Peer, seconds: float, *, with_words: bool = True, blocks: bool = True) -> None:
        super().__init__(peer, seconds, blocks=blocks)
        self._with_words = with_words
        self._start = 0
        self._pcm = b""
        self._is_configured = False

    def hear(self, data: bytes) -> None:
        def reply() -> None:
            self.compute()
            self._pcm += data
            words = recognize(self._pcm)
            if words and not any(self._pcm[-BYTES_PER_SECOND // 2 :]):
                self._send_final()
            else:
                self.peer.text(json.dumps({"partial": " ".join(word.text for word in words)}))

        self.tasks.append(reply)

    def control(self, text: str) -> bool:
        if text == '{"config": {"sample_rate": 16000}}':
            self._is_configured = True
            return False
        if text != '{"eof" : 1}' or not self._is_configured:
            self.peer.send(close_frame(1011))
            return True
        while self.tasks:  # its messages are processed in order
            self.tasks.popleft()()
        self._send_final()
        self.peer.send(close_frame(1000))
        return True

    def _send_final(self) -> None:
        words = recognize(self._pcm)
        offset = self._start / BYTES_PER_SECOND
        self._start += len(self._pcm)
        self._pcm = b""
        fields: dict[str, object] = {"text": " ".join(word.text for word in words)}
        if words and self._with_words:
            fields["result"] = [
                {"conf": 1.0, "start": offset + word.start, "end": offset + word.end, "word": word.text}
                for word in words
            ]
        self.peer.text(json.dumps(fields))


def _has_input(peer: Peer, seconds: float = 0.0) -> bool:
    return peer.has_input or bool(select.select([peer.sock], [], [], seconds)[0])


def serving(server: Callable[..., _Server], seconds: float = 0.0, **options: bool) -> Callable[[Peer], None]:
    """Return a script for ``Scripted`` that serves each connection by a new server."""

    def script(peer: Peer) -> None:
        peer.accept()
        server(peer, seconds, **options).run()

    return script

"""A scripted transcription service that records the audio and the end marks of every connection."""

from __future__ import annotations

import json
import threading

from agent.services.protocols import transcription
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, close_frame, frame

TIMEOUT_SECONDS = 60.0
ANSWERS_LATE = ": ".join(transcription.LATE_ANSWERS)
"""Header of a service that transcribes everything before it answers the end mark."""

FRAME_BYTES = 3200
EXPORT_ID = "0b9fd2c1-5a1e-4c53-9f6e-1f7f0f1d2a3b"


def final(text: str, *, with_words: bool = True) -> str:
    """A final transcript; its only word ends after half a second."""
    words = [{"word": "all", "start": 0.0, "end": 0.5, "conf": 1.0}] if with_words else []
    return json.dumps({"result": words, "text": text})


def numbered_frames(first: int, count: int) -> list[bytes]:
    """Frames of 0.1 s that differ from each other; none is silent."""
    return [bytes([1 + (first + number) % 250]) * FRAME_BYTES for number in range(count)]


class Transcriber:
    """A script for ``Scripted``. ``audio`` and ``end_marks`` have one entry per connection. Thread-safe.

    Args:
        dies_after: bytes after which the connection is closed; only the first ``deaths`` connections are.
        answers: whether a final transcript and an export ID follow the end mark.
        final_each: bytes after which a final transcript is sent.
        final_words: whether those finals have words.
        partials: whether every frame is answered by a partial transcript.
        breaks_at_end: whether the end mark is answered by the close code 1011.
        loses_tail: whether the end mark is answered by the export ID alone.
    """

    def __init__(
        self,
        *,
        dies_after: int = 0,
        deaths: int = 0,
        answers: bool = True,
        final_each: int | None = None,
        final_words: bool = False,
        partials: bool = True,
        breaks_at_end: bool = False,
        loses_tail: bool = False,
    ) -> None:
        self.audio: list[bytearray] = []
        self.end_marks: list[int] = []
        self.answers = answers
        self._changed = threading.Condition()
        self._dies_after, self._deaths = dies_after, deaths
        self._final_each, self._final_words = final_each, final_words
        self._partials, self._breaks_at_end, self._loses_tail = partials, breaks_at_end, loses_tail

    def __call__(self, peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        with self._changed:
            index = len(self.audio)
            self.audio.append(bytearray())
            self.end_marks.append(0)
            self._changed.notify_all()
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(CLOSE, data))
                return
            if opcode == PING:
                peer.send(frame(PONG, data))
            elif opcode == BINARY:
                if self._hear(peer, index, data):
                    return
            elif opcode == TEXT and data == b"eof":
                with self._changed:
                    self.end_marks[index] += 1
                    self._changed.notify_all()
                self._answer(peer, index)

    def _hear(self, peer: Peer, index: int, data: bytes) -> bool:
        """Record a frame; return whether the connection dies."""
        with self._changed:
            before = len(self.audio[index])
            self.audio[index] += data
            self._changed.notify_all()
        size = before + len(data)
        if self._partials:
            peer.text(json.dumps({"partial": f"{size // FRAME_BYTES} frames"}))
        each = self._final_each
        for number in range(before // each + 1, size // each + 1) if each else ():
            peer.text(final(f"final {number}", with_words=self._final_words))
        if self._deaths and size >= self._dies_after:
            self._deaths -= 1
            return True
        return False

    def _answer(self, peer: Peer, index: int) -> None:
        if self._breaks_at_end:
            peer.send(close_frame(1011))
        elif self.answers or self._loses_tail:
            if not self._loses_tail:
                peer.text(final(f"all {len(self.audio[index]) // FRAME_BYTES} frames"))
            peer.text(EXPORT_ID)
            peer.send(close_frame(1000))

    def await_bytes(self, count: int) -> None:
        with self._changed:
            met = self._changed.wait_for(lambda: sum(map(len, self.audio)) >= count, TIMEOUT_SECONDS)
            assert met, [*map(len, self.audio)]

    def await_end_marks(self) -> list[int]:
        """Wait until each connection has an end mark: the server may read it after the client has closed."""
        with self._changed:
            self._changed.wait_for(lambda: all(self.end_marks), TIMEOUT_SECONDS)
            return list(self.end_marks)

    def used(self) -> list[bytes]:
        """The audio of the connections that received any."""
        return [bytes(audio) for audio in self.audio if audio]

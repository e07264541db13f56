"""Files and stdin as frames: read no faster than they can be sent, with nothing forgotten."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.audio.devices.file import read_speech
from agent.audio.format import SPEECH
from agent.errors import UsageError

SMALLEST_BYTES = SPEECH.bytes_of(0.1)
LARGEST_BYTES = SPEECH.bytes_of(1.0)
"""What one message to the transcription service may carry."""


class FileFrames:
    """The sound of a WAV file as frames of ``frame_seconds``, each read when it is taken; a tail of less than 0.1 s
    rides on the frame before it. Raises ``AudioError`` when it is opened and the file is not one."""

    def __init__(self, path: Path, frame_seconds: float) -> None:
        self._size = SPEECH.bytes_of(frame_seconds)
        self._pieces: Iterator[bytes] = read_speech(path)
        self._waiting = bytearray(next(self._pieces, b""))
        self._fd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # there is always something to take
        self._whole = False

    def fileno(self) -> int:
        return self._fd

    @property
    def frame_count(self) -> int:
        return 0 if self._whole and not self._waiting else 1

    @property
    def is_closed(self) -> bool:
        return self._whole

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < max_frames and (frame := self._frame()):
            frames.append(frame)
        return frames

    def take_gap(self) -> tuple[float, float] | None:
        return None

    def close(self) -> None:
        """What has not been taken is not wanted any more."""
        self._whole = True
        self._waiting.clear()

    def release(self) -> None:
        self.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _frame(self) -> bytes:
        # So far ahead that it is known whether what follows this frame is a message of its own.
        while len(self._waiting) < self._size + SMALLEST_BYTES and not self._whole:
            piece = next(self._pieces, None)
            if piece is None:
                self._whole = True
                break
            self._waiting += piece
        return _cut(self._waiting, self._size)


class StdinFrames:
    """Raw 16 kHz mono s16le from stdin, as it comes: what is there is never held back, but where more is there at
    once (a file in a pipe) a tail of less than 0.1 s rides on the frame before it. A WAV there is a mistake: ``take``
    raises ``UsageError``."""

    def __init__(self, frame_seconds: float) -> None:
        self._size = SPEECH.bytes_of(frame_seconds)
        self._fd = sys.stdin.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._over = False
        self._first = True
        self._waiting = bytearray()

    def fileno(self) -> int:
        return -1 if self._over else self._fd

    @property
    def frame_count(self) -> int:
        return 1 if self._waiting else 0

    @property
    def is_closed(self) -> bool:
        return self._over

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < max_frames:
            wanted = self._size + SMALLEST_BYTES
            while len(self._waiting) < wanted and not self._over and self._poll.poll(0):
                self._read(wanted - len(self._waiting))
            if not self._waiting:
                break
            frames.append(_cut(self._waiting, self._size))
        return frames

    def _read(self, most: int) -> None:
        chunk = os.read(self._fd, most)
        if self._first and chunk.startswith(b"RIFF"):
            raise UsageError("stdin holds a WAV file, not raw 16 kHz mono s16le: name the file instead of -")
        self._first = False
        self._over = not chunk
        self._waiting += chunk

    def take_gap(self) -> tuple[float, float] | None:
        return None

    def close(self) -> None:
        self._over = True
        self._waiting.clear()

    def release(self) -> None:
        self.close()


def _cut(waiting: bytearray, size: int) -> bytes:
    """The next frame, taken off: ``size`` bytes, or all where what would be left is too little for a message of its
    own. What is too long for one message then leaves the least that is enough."""
    if size < len(waiting) < size + SMALLEST_BYTES:
        size = len(waiting) if len(waiting) <= LARGEST_BYTES else len(waiting) - SMALLEST_BYTES
    frame = bytes(waiting[:size])
    del waiting[:size]
    return frame

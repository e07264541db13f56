"""Files and stdin as frames: read no faster than they can be sent, with nothing forgotten."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.audio.file_device import speech_of
from agent.audio.format import SPEECH
from agent.errors import UsageError


class FileFrames:
    """The sound of a WAV file as frames of ``frame_seconds``, each read when it is taken. Raises ``AudioError`` when it
    is opened and the file is not one."""

    def __init__(self, path: Path, frame_seconds: float) -> None:
        self._size = SPEECH.bytes_of(frame_seconds)
        self._pieces: Iterator[bytes] = speech_of(path)
        self._waiting = bytearray(next(self._pieces, b""))
        self._fd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # there is always something to take
        self._whole = False

    def fileno(self) -> int:
        return self._fd

    @property
    def held(self) -> int:
        return 0 if self._whole and not self._waiting else 1

    @property
    def closed(self) -> bool:
        return self._whole

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < max_frames and (frame := self._frame()):
            frames.append(frame)
        return frames

    def lost(self) -> tuple[float, float] | None:
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
        while len(self._waiting) < self._size and not self._whole:
            piece = next(self._pieces, None)
            if piece is None:
                self._whole = True
                break
            self._waiting += piece
        frame = bytes(self._waiting[: self._size])
        del self._waiting[: self._size]
        return frame


class StdinFrames:
    """Raw 16 kHz mono s16le from stdin, as it comes. A WAV there is a mistake: ``take`` raises ``UsageError``."""

    def __init__(self, frame_seconds: float) -> None:
        self._size = SPEECH.bytes_of(frame_seconds)
        self._fd = sys.stdin.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._over = False
        self._first = True

    def fileno(self) -> int:
        return -1 if self._over else self._fd

    @property
    def held(self) -> int:
        return 0

    @property
    def closed(self) -> bool:
        return self._over

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < max_frames and not self._over and self._poll.poll(0):
            chunk = os.read(self._fd, self._size)
            if self._first and chunk.startswith(b"RIFF"):
                raise UsageError("stdin holds a WAV file, not raw 16 kHz mono s16le: name the file instead of -")
            self._first = False
            if not chunk:
                self._over = True
                break
            frames.append(chunk)
        return frames

    def lost(self) -> tuple[float, float] | None:
        return None

    def close(self) -> None:
        self._over = True

    def release(self) -> None:
        self.close()

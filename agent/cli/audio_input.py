"""WAV files and stdin as frames for the recognizer: read at the rate of the connection, without loss."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.audio.decoders.riff import may_be_header
from agent.audio.decoders.sniff import compressed_container
from agent.audio.devices.file import read_error, read_speech
from agent.audio.format import SPEECH
from agent.errors import UsageError

# The transcription service takes 0.1 to 1 s of audio per message.
MIN_FRAME_BYTES = SPEECH.bytes_of(0.1)
MAX_FRAME_BYTES = SPEECH.bytes_of(1.0)


class _Frames:
    """The state that both inputs share. Owned by the recognizer thread; ``close`` is thread-safe."""

    def __init__(self, frame_seconds: float, buffer: bytes = b"") -> None:
        self._frame_bytes = SPEECH.bytes_of(frame_seconds)
        self._buffer = bytearray(buffer)
        self._is_read = self._is_stopped = False
        self._taken_bytes = self._read_bytes = 0

    @property
    def seconds(self) -> float:
        """Length of the audio that was read, also if it was read again from an earlier position."""
        return SPEECH.seconds_of(self._read_bytes)

    @property
    def position_seconds(self) -> float:
        """Position of the next frame."""
        return SPEECH.seconds_of(self._taken_bytes)

    @property
    def is_closed(self) -> bool:
        return self._is_read or self._is_stopped

    def take_gap(self) -> tuple[float, float] | None:
        return None

    def close(self) -> None:
        """Drop the audio that is not taken yet."""
        self._is_stopped = True  # only this: the recognizer thread may read or rewind now


class FileFrames(_Frames):
    """A WAV file as frames of 16 kHz mono s16le. Owned by the recognizer thread; ``close`` is thread-safe.

    A frame is read when it is taken. A tail of less than 0.1 s is part of the frame before it.

    Args:
        path: The file.
        frame_seconds: The length of a frame.

    Raises:
        AudioError: The file is not a WAV file that can be read.
    """

    def __init__(self, path: Path, frame_seconds: float) -> None:
        self._path = path
        self._chunks: Iterator[bytes] = read_speech(path)
        super().__init__(frame_seconds, _first_piece(self._chunks))
        self._fd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # always readable: a read of a file never waits

    def fileno(self) -> int:
        return self._fd

    @property
    def frame_count(self) -> int:
        return 0 if self._is_stopped or (self._is_read and not self._buffer) else 1

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < max_frames and not self._is_stopped and (frame := self._next()):
            frames.append(frame)
        return frames

    def rewind(self, position_bytes: int) -> bool:
        """Read again from this position of the audio; ``False`` after ``close`` and for a pipe."""
        if self._is_stopped or not self._path.is_file():
            return False
        self._chunks, self._is_read = read_speech(self._path), False
        self._buffer.clear()
        self._taken_bytes = position_bytes
        skipped = 0
        while skipped < position_bytes and (chunk := next(self._chunks, None)) is not None:
            skipped += len(chunk)
            self._buffer += (
                chunk[max(0, len(chunk) - (skipped - position_bytes)) :] if skipped > position_bytes else b""
            )
        return True

    def measure_rest(self) -> float:
        """Return the length of the audio that is not taken yet, in seconds; reads the file again (0 for a pipe)."""
        if not self._path.is_file():
            return 0.0
        return SPEECH.seconds_of(sum(map(len, read_speech(self._path))) - self._taken_bytes)

    def release(self) -> None:
        self.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self) -> bytes:
        # The lookahead shows whether a tail is long enough for a message of its own.
        while len(self._buffer) < self._frame_bytes + MIN_FRAME_BYTES and not self._is_read:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._is_read = True
                break
            self._buffer += chunk
        frame = _pop_frame(self._buffer, self._frame_bytes)
        self._taken_bytes += len(frame)
        self._read_bytes = max(self._read_bytes, self._taken_bytes)
        return frame


class _LiveFrames(_Frames):
    """Audio that arrives while it is read. Owned by the recognizer thread; ``close`` is thread-safe.

    Live audio is never delayed, and no read waits for it. From a pipe that holds more, a tail of less than 0.1 s is
    part of the frame before it.

    Args:
        descriptor: Readable when audio can be read.
        frame_seconds: The longest frame.
        buffer: The audio that was read already.
    """

    def __init__(self, descriptor: int, frame_seconds: float, buffer: bytes = b"") -> None:
        super().__init__(frame_seconds, buffer)
        self._fd = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def fileno(self) -> int:
        return -1 if self.is_closed else self._fd

    @property
    def frame_count(self) -> int:
        return 1 if self._buffer and not self._is_stopped else 0

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        lookahead = self._frame_bytes + MIN_FRAME_BYTES
        while len(frames) < max_frames and not self._is_stopped:
            while len(self._buffer) < lookahead and not self._is_read and self._poll.poll(0):
                self._read(lookahead - len(self._buffer))
            if not self._buffer:
                break
            frame = _pop_frame(self._buffer, self._frame_bytes)
            if len(frame) % 2 and not self._is_read:  # the rest of the sample follows; a replay starts with a frame
                self._buffer[:0] = frame[-1:]
                frame = frame[:-1]
            if not frame:
                break
            frames.append(frame)
            self._taken_bytes += len(frames[-1])
        return frames

    def release(self) -> None:
        self.close()

    def _read(self, max_bytes: int) -> None:
        """Read what has arrived into the buffer, or note the end."""
        raise NotImplementedError


class PipeFrames(_LiveFrames):
    """A WAV file that arrives through a named pipe, as frames of 16 kHz mono s16le.

    Owned by the recognizer thread; ``close`` is thread-safe. The constructor waits for the beginning of the file.

    Args:
        path: The pipe.
        frame_seconds: The longest frame.

    Raises:
        AudioError: The pipe holds no WAV file that can be read.
    """

    def __init__(self, path: Path, frame_seconds: float) -> None:
        try:
            self._file = path.open("rb", buffering=0)  # a buffer would hold audio that poll does not see
        except OSError as error:
            raise read_error(path, error) from error
        self._pieces = read_speech(path, opened=self._file)
        super().__init__(self._file.fileno(), frame_seconds, _first_piece(self._pieces))
        self._read_bytes = len(self._buffer)
        self._is_read = not self._buffer  # the file is closed: its descriptor may be that of another one by now

    def rewind(self, position_bytes: int) -> bool:
        """Return ``False``: a pipe cannot be read again."""
        return False

    def measure_rest(self) -> float:
        """Return 0: the length of the audio that still arrives is not known."""
        return 0.0

    def release(self) -> None:
        super().release()
        self._file.close()

    def _read(self, max_bytes: int) -> None:
        piece = next(self._pieces, None)
        self._is_read = piece is None
        self._read_bytes += len(piece or b"")
        self._buffer += piece or b""


class StdinFrames(_LiveFrames):
    """Raw 16 kHz mono s16le from stdin as frames. Owned by the recognizer thread; ``close`` is thread-safe.

    ``take`` raises ``UsageError`` if stdin cannot be read, or holds a WAV file or compressed audio.

    Args:
        frame_seconds: The longest frame.
    """

    def __init__(self, frame_seconds: float) -> None:
        super().__init__(sys.stdin.fileno(), frame_seconds)
        self._is_first = True
        is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._start = os.lseek(self._fd, 0, os.SEEK_CUR) if is_file else None  # of a file, which can be read again

    def rewind(self, position_bytes: int) -> bool:
        """Read again from this position of the audio; ``False`` after ``close`` and unless stdin is a file."""
        if self._start is None or self._is_stopped:
            return False
        os.lseek(self._fd, self._start + position_bytes, os.SEEK_SET)
        self._buffer.clear()
        self._read_bytes = self._taken_bytes = position_bytes
        self._is_read = False
        return True

    def measure_rest(self) -> float:
        """Return the length of the audio that is not taken yet, in seconds; 0 unless stdin is a file."""
        if self._start is None:
            return 0.0
        return SPEECH.seconds_of(os.fstat(self._fd).st_size - self._start - self._taken_bytes)

    def _read(self, max_bytes: int) -> None:
        try:
            chunk = os.read(self._fd, max_bytes)
        except OSError as error:  # stdin is open for writing only, or a terminal that was closed
            raise UsageError(f"stdin cannot be read: {error.strerror}") from error
        if self._is_first:
            _check_start(chunk)
        self._is_first = False
        self._is_read = not chunk
        self._read_bytes += len(chunk)
        self._buffer += chunk


def _check_start(chunk: bytes) -> None:
    """Raise ``UsageError`` if the first bytes of stdin show that it holds something other than raw audio."""
    if len(chunk) >= 4 and may_be_header(chunk):
        raise UsageError(
            "stdin holds a WAV file, not raw 16 kHz mono s16le. Name the file, or /dev/stdin for a pipe, instead of -."
        )
    if (container := compressed_container(chunk)) is not None:
        raise UsageError(
            f"stdin holds {container}, not raw 16 kHz mono s16le. Convert it first: "
            "ffmpeg -i FILE -f s16le -ar 16000 -ac 1 -"
        )


def _first_piece(pieces: Iterator[bytes]) -> bytes:
    """Return the first audio of a file; nothing if it has none."""
    return next(filter(None, pieces), b"")


def _pop_frame(buffer: bytearray, size: int) -> bytes:
    """Remove and return the next frame.

    It has ``size`` bytes, or more if the rest is shorter than ``MIN_FRAME_BYTES``. If it would then exceed
    ``MAX_FRAME_BYTES``, it leaves exactly ``MIN_FRAME_BYTES``.
    """
    if size < len(buffer) < size + MIN_FRAME_BYTES:
        size = len(buffer) if len(buffer) <= MAX_FRAME_BYTES else len(buffer) - MIN_FRAME_BYTES
    frame = bytes(buffer[:size])
    del buffer[:size]
    return frame

"""Reads WAV files and stdin as frames for the recognizer, as fast as the connection sends them and without loss."""

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

# The transcription service accepts 0.1 to 1 s of audio per message.
MIN_FRAME_BYTES = SPEECH.bytes_of(0.1)
MAX_FRAME_BYTES = SPEECH.bytes_of(1.0)


class InputFrames:
    """The audio of a file, a pipe or stdin as frames. Owned by the recognizer thread; ``close`` is thread-safe."""

    def __init__(self, frame_seconds: float, buffer: bytes = b"") -> None:
        self._frame_bytes = SPEECH.bytes_of(frame_seconds)
        self._buffer = bytearray(buffer)
        self._is_at_end = self._is_stopped = False
        self._taken_bytes = self._read_bytes = 0

    @property
    def seconds(self) -> float:
        """Length of the audio that was read, in seconds. Audio that is read again after ``rewind`` counts once."""
        return SPEECH.seconds_of(self._read_bytes)

    @property
    def position_seconds(self) -> float:
        """Position of the next frame in the audio, in seconds."""
        return SPEECH.seconds_of(self._taken_bytes)

    @property
    def is_closed(self) -> bool:
        return self._is_at_end or self._is_stopped

    def take_gap(self) -> tuple[float, float] | None:
        return None

    def rewind(self, position_bytes: int) -> bool:
        """Read again from this position of the audio. Return ``False`` if the input cannot be read again."""
        return False

    def measure_rest(self) -> float:
        """Return the length of the audio that was not taken, in seconds; 0 if it is unknown."""
        return 0.0

    def close(self) -> None:
        """Drop the audio that is not taken yet."""
        self._is_stopped = True  # nothing else: the recognizer thread may be in ``take`` or ``rewind``


class FileFrames(InputFrames):
    """A WAV file as frames of 16 kHz mono s16le. Owned by the recognizer thread; ``close`` is thread-safe.

    The file is read while frames are taken. A rest of less than 0.1 s at its end is added to the frame before it (for
    the limits see ``_pop_frame``).

    Args:
        path: The file.
        frame_seconds: The length of a frame.

    Raises:
        AudioError: The file cannot be read, or is not a WAV file. ``take``, ``rewind`` and ``measure_rest`` raise it as
            well.
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
        return 0 if self._is_stopped or (self._is_at_end and not self._buffer) else 1

    def take(self, max_frames: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < max_frames and not self._is_stopped and (frame := self._next()):
            frames.append(frame)
        return frames

    def rewind(self, position_bytes: int) -> bool:
        """Continue at this position of the audio. Return ``False`` after ``close`` or if ``path`` is not a file."""
        if self._is_stopped or not self._path.is_file():
            return False
        self._chunks, self._is_at_end = read_speech(self._path), False
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
        """Return the length of the audio that is not taken yet, in seconds; 0 if ``path`` is not a regular file.

        This reads the whole file again.
        """
        if not self._path.is_file():
            return 0.0
        return SPEECH.seconds_of(sum(map(len, read_speech(self._path))) - self._taken_bytes)

    def release(self) -> None:
        self.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self) -> bytes:
        # Read 0.1 s ahead: this shows whether the rest of the file is long enough for a separate frame.
        while len(self._buffer) < self._frame_bytes + MIN_FRAME_BYTES and not self._is_at_end:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._is_at_end = True
                break
            self._buffer += chunk
        frame = _pop_frame(self._buffer, self._frame_bytes)
        self._taken_bytes += len(frame)
        self._read_bytes = max(self._read_bytes, self._taken_bytes)
        return frame


class _LiveFrames(InputFrames):
    """Audio that arrives while it is read. Owned by the recognizer thread; ``close`` is thread-safe.

    ``take`` returns the audio that has arrived, and does not wait for a full frame. If a pipe holds more than a frame,
    a rest of less than 0.1 s is added to that frame (for the limits see ``_pop_frame``).

    Args:
        descriptor: The input; it is readable when audio has arrived, and at the end.
        frame_seconds: The longest frame.
        buffer: The audio that has been read already.
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
            while len(self._buffer) < lookahead and not self._is_at_end and self._poll.poll(0):
                self._read(lookahead - len(self._buffer))
            if not self._buffer:
                break
            frame = _pop_frame(self._buffer, self._frame_bytes)
            # A replay starts at a frame, so each frame has whole samples. The rest of this sample has not arrived.
            if len(frame) % 2 and not self._is_at_end:
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
        """Read audio that has arrived into the buffer, or set ``_is_at_end`` at the end of the input."""
        raise NotImplementedError


class PipeFrames(_LiveFrames):
    """A WAV file that arrives through a named pipe, as frames of 16 kHz mono s16le.

    Owned by the recognizer thread; ``close`` is thread-safe. The constructor blocks until the first audio has arrived.

    Args:
        path: The pipe.
        frame_seconds: The longest frame.

    Raises:
        AudioError: The pipe cannot be read, or its content is not a WAV file. ``take`` raises it too.
    """

    def __init__(self, path: Path, frame_seconds: float) -> None:
        try:
            self._file = path.open("rb", buffering=0)  # a buffer would hold audio that poll does not see
        except OSError as error:
            raise read_error(path, error) from error
        self._pieces = read_speech(path, opened=self._file)
        super().__init__(self._file.fileno(), frame_seconds, _first_piece(self._pieces))
        self._read_bytes = len(self._buffer)
        self._is_at_end = not self._buffer  # no audio: the file is closed, and its descriptor may be reused

    def release(self) -> None:
        super().release()
        self._file.close()

    def _read(self, max_bytes: int) -> None:
        piece = next(self._pieces, None)
        self._is_at_end = piece is None
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
        self._start = os.lseek(self._fd, 0, os.SEEK_CUR) if is_file else None  # None: stdin cannot be read again

    def rewind(self, position_bytes: int) -> bool:
        """Continue at this position of the audio. Return ``False`` after ``close`` or if stdin is not a file."""
        if self._start is None or self._is_stopped:
            return False
        os.lseek(self._fd, self._start + position_bytes, os.SEEK_SET)
        self._buffer.clear()
        self._taken_bytes = position_bytes
        self._is_at_end = False
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
        self._is_at_end = not chunk
        self._buffer += chunk
        self._read_bytes = max(self._read_bytes, self._taken_bytes + len(self._buffer))


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
    """Return the first piece that is not empty; no bytes if the file has no audio."""
    return next(filter(None, pieces), b"")


def _pop_frame(buffer: bytearray, size: int) -> bytes:
    """Remove and return the next frame.

    The frame has ``size`` bytes, or fewer if the buffer has fewer. If less than ``MIN_FRAME_BYTES`` would remain, the
    frame contains the whole buffer. If that exceeds ``MAX_FRAME_BYTES``, exactly ``MIN_FRAME_BYTES`` remain.
    """
    if size < len(buffer) < size + MIN_FRAME_BYTES:
        size = len(buffer) if len(buffer) <= MAX_FRAME_BYTES else len(buffer) - MIN_FRAME_BYTES
    frame = bytes(buffer[:size])
    del buffer[:size]
    return frame

"""The frame queue between the microphone thread and the recognizer thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from agent.audio.format import SPEECH


class FrameSource(Protocol):
    """A source of frames (16 kHz mono s16le): the frame queue, or a file that is read as fast as frames are sent.

    ``close`` is thread-safe; the recognizer thread owns the rest.
    """

    @property
    def frame_count(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def take(self, max_frames: int) -> list[bytes]: ...
    def take_gap(self) -> tuple[float, float] | None: ...
    def rewind(self, position_bytes: int) -> bool: ...
    def close(self) -> None: ...
    def release(self) -> None: ...


class FrameQueue:
    """A bounded queue of frames that never blocks the microphone.

    When the queue is full it drops its oldest frame and counts it, because recent speech is more useful than old
    speech. Every frame is taken, dropped, cleared or still in the queue.

    This queue only passes frames from one thread to another. ``SpeechSegment`` keeps the audio for a replay.

    Thread-safe, for one writer (``put``) and one reader (``take``, ``get``, iteration, ``take_gap``, ``release``). A
    reader that uses ``fileno()`` calls ``release()`` at its end.

    Args:
        capacity_seconds: length of the audio that fits into the queue. A single frame fits even if it is longer.
    """

    def __init__(self, capacity_seconds: float) -> None:
        self._capacity_bytes = SPEECH.bytes_of(capacity_seconds)
        self._condition = threading.Condition()
        self._frames: deque[tuple[int, bytes]] = deque()  # each with its position: bytes since the first frame
        self._queued_bytes = self._total_bytes = 0
        self._dropped_frames = 0
        self._gap: tuple[int, int] | None = None  # position and size of the dropped audio
        self._is_closed = self._is_released = False
        self._fd = -1

    # --- writer

    def put(self, frame: bytes) -> None:
        """Append a frame. Ignores empty frames, and all frames after ``close()``."""
        with self._condition:
            if self._is_closed or not frame:
                return
            self._frames.append((self._total_bytes, frame))
            self._total_bytes += len(frame)
            self._queued_bytes += len(frame)
            self._drop_oldest()
            self._signal()

    @property
    def total_samples(self) -> int:
        """Samples that were put since construction."""
        with self._condition:
            return self._total_bytes // SPEECH.frame_bytes

    def close(self) -> None:
        """End the stream: the reader gets the queued frames, then the end. Idempotent, from any thread."""
        with self._condition:
            self._is_closed = True
            self._signal()

    # --- reader

    def take(self, max_frames: int) -> list[bytes]:
        """Remove and return up to ``max_frames`` frames, oldest first, without blocking."""
        with self._condition:
            return [self._pop() for _ in range(min(max_frames, len(self._frames)))]

    def get(self, timeout_seconds: float | None) -> bytes | None:
        """Remove and return the oldest frame; ``None`` after the timeout or at the end of the stream."""
        with self._condition:
            self._condition.wait_for(lambda: self._frames or self._is_closed, timeout_seconds)
            return self._pop() if self._frames else None

    def __iter__(self) -> Iterator[bytes]:
        while (frame := self.get(None)) is not None:
            yield frame

    def fileno(self) -> int:
        """Return a descriptor that is readable while a frame is queued or the queue is closed; -1 after ``release``."""
        with self._condition:
            if self._fd < 0 and not self._is_released:
                self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                if self._frames or self._is_closed:
                    os.eventfd_write(self._fd, 1)
            return self._fd

    def release(self) -> None:
        """Close the queue and its descriptor; idempotent."""
        self.close()
        with self._condition:
            self._is_released = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def take_gap(self) -> tuple[float, float] | None:
        """Return the audio dropped since the last call, or ``None``.

        Returns:
            Start, in seconds of audio since the first frame, and length in seconds.
        """
        with self._condition:
            if self._gap is None:
                return None
            (start, size), self._gap = self._gap, None
            return SPEECH.seconds_of(start), SPEECH.seconds_of(size)

    def rewind(self, position_bytes: int) -> bool:
        """Return ``False``: live audio cannot be read again from an earlier position."""
        return False

    # --- any thread

    def clear(self) -> int:
        """Discard the queued frames on purpose, without counting them as dropped; return their number."""
        with self._condition:
            count = len(self._frames)
            self._frames.clear()
            self._queued_bytes = 0
            self._reset_signal()
            return count

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended; frames may still be queued."""
        with self._condition:
            return self._is_closed

    @property
    def frame_count(self) -> int:
        """Number of queued frames."""
        with self._condition:
            return len(self._frames)

    @property
    def dropped_frames(self) -> int:
        """Number of frames that were dropped because the queue was full; never decreases."""
        with self._condition:
            return self._dropped_frames

    # --- with the lock held

    def _drop_oldest(self) -> None:
        # The newest frame stays even if it is longer than the capacity.
        while self._queued_bytes > self._capacity_bytes and len(self._frames) > 1:
            position, frame = self._frames.popleft()
            self._queued_bytes -= len(frame)
            self._dropped_frames += 1
            start, size = self._gap or (position, 0)
            self._gap = start, size + len(frame)

    def _pop(self) -> bytes:
        _, frame = self._frames.popleft()
        self._queued_bytes -= len(frame)
        if not self._frames:
            self._reset_signal()
        return frame

    def _signal(self) -> None:
        self._condition.notify_all()
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def _reset_signal(self) -> None:
        # A closed queue stays readable, so that the reader sees the end.
        if self._fd >= 0 and not self._is_closed:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                return  # the descriptor was not readable

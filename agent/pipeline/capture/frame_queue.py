"""The frame queue: sound on its way from the microphone to the network."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from agent.audio.format import SPEECH


class FrameSource(Protocol):
    """Where frames come from: the frame queue, or something that is read no faster than it can be sent."""

    @property
    def frame_count(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def take(self, max_frames: int) -> list[bytes]: ...
    def take_gap(self) -> tuple[float, float] | None: ...
    def close(self) -> None: ...
    def release(self) -> None: ...


class FrameQueue:
    """Frames on their way from the microphone to one listener. When full, the oldest frame is forgotten and counted:
    late speech is worth less than the present. Iteration ends when the queue is closed and empty.

    Frames are 16 kHz mono s16le, of any length. One thread puts, one listens (``take``, ``get``, iteration); ``clear``
    and ``close`` are for every thread. As long as it is never cleared, every frame that was put was taken, forgotten,
    or is held. A listener that has used ``fileno()`` calls ``release()`` when it ends.
    """

    def __init__(self, capacity_seconds: float) -> None:
        self._capacity = SPEECH.bytes_of(capacity_seconds)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes]] = deque()  # each with its place: bytes since the first frame
        self._waiting_bytes = self._place = 0
        self._forgotten = 0
        self._lost: tuple[int, int] | None = None
        self._closed = self._released = False
        self._fd = -1

    # --- the microphone's side

    def put(self, frame: bytes) -> None:
        """Takes one frame, never blocks. After ``close()`` it is dropped. An empty frame is none."""
        with self._changed:
            if self._closed or not frame:
                return
            self._admit(self._place, frame)
            self._announce()
            self._place += len(frame)

    def close(self) -> None:
        """The end of the stream: the listener gets what waits, then the end. Safe twice."""
        with self._changed:
            self._closed = True
            self._announce()

    # --- the listener's side

    def take(self, max_frames: int) -> list[bytes]:
        """Up to ``max_frames`` frames that wait, oldest first, without blocking; empty when none does."""
        with self._changed:
            return [self._pop() for _ in range(min(max_frames, len(self._waiting)))]

    def get(self, timeout_seconds: float | None) -> bytes | None:
        """The oldest frame; ``None`` when none came in time, or the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_seconds)
            return self._pop() if self._waiting else None

    def __iter__(self) -> Iterator[bytes]:
        while (frame := self.get(None)) is not None:
            yield frame

    def fileno(self) -> int:
        """A descriptor for ``select``, readable while a frame waits or the queue is closed; -1 once released."""
        with self._changed:
            if self._fd < 0 and not self._released:
                self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                if self._waiting or self._closed:
                    os.eventfd_write(self._fd, 1)
            return self._fd

    def release(self) -> None:
        """Gives the descriptor back, and closes the queue: nobody listens any more. Safe twice."""
        self.close()
        with self._changed:
            self._released = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def take_gap(self) -> tuple[float, float] | None:
        """What was forgotten since this was last asked: where it began, in seconds of sound since the first frame, and
        how many seconds it was; ``None`` where nothing was."""
        with self._changed:
            if self._lost is None:
                return None
            (start, size), self._lost = self._lost, None
            return SPEECH.seconds_of(start), SPEECH.seconds_of(size)

    # --- everybody's side

    def clear(self) -> int:
        """Drops every frame that waits, on somebody's wish: not counted as forgotten. Returns how many."""
        with self._changed:
            dropped = len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._quieten()
            return dropped

    @property
    def is_closed(self) -> bool:
        """Whether ``close()`` was called; frames may still wait."""
        with self._changed:
            return self._closed

    @property
    def frame_count(self) -> int:
        """How many frames wait for the listener."""
        with self._changed:
            return len(self._waiting)

    @property
    def buffered_seconds(self) -> float:
        """How much sound waits for the listener, in seconds."""
        with self._changed:
            return SPEECH.seconds_of(self._waiting_bytes)

    @property
    def dropped_frames(self) -> int:
        """How many frames were forgotten because the queue was full; only grows."""
        with self._changed:
            return self._forgotten

    # --- inside, with the lock held

    def _admit(self, place: int, frame: bytes) -> None:
        self._waiting.append((place, frame))
        self._waiting_bytes += len(frame)
        # The newest frame stays even where it alone is more than the capacity: the present is what counts.
        while self._waiting_bytes > self._capacity and len(self._waiting) > 1:
            oldest, dropped_frames = self._waiting.popleft()
            self._waiting_bytes -= len(dropped_frames)
            self._forgotten += 1
            start, size = self._lost or (oldest, 0)
            self._lost = start, size + len(dropped_frames)

    def _pop(self) -> bytes:
        _, frame = self._waiting.popleft()
        self._waiting_bytes -= len(frame)
        if not self._waiting:
            self._quieten()
        return frame

    def _announce(self) -> None:
        self._changed.notify_all()
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def _quieten(self) -> None:
        # Only what was announced is taken back: a closed queue stays readable, so that its end is seen.
        if self._fd >= 0 and not self._closed:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                return  # nothing had been announced

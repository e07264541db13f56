"""The ring buffer between the synthesizer, which writes, and the speaker, which reads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from agent.audio.format import Format
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

MIN_CAPACITY_BYTES = 64
CLOSED_EARLY = "the speaker was closed before the end of the utterance"
SAME_ARRIVAL_SECONDS = 0.002
"""Writes within this time count as one arrival, because one message is written in several pieces."""


@distinct
class Playout(NamedTuple):
    """How an utterance is played. Immutable.

    ``volume``: in percent; ``None`` uses the volume of the speaker. ``starts_pause``: the pause between announcements
    (``conversation.gap_seconds``) starts at its end. ``waits_for_pause``: playback starts only after such a pause.
    ``is_sound``: the stream is a sound, not an utterance, and no events are reported for it. ``starts_stored``: the
    audio starts with a stored phrase or a chime, before a service has sent audio.
    """

    volume: int | None = None
    waits_for_pause: bool = False
    starts_pause: bool = False
    is_sound: bool = False
    starts_stored: bool = False


DEFAULT_PLAYOUT = Playout()


@distinct
class UtteranceStart(NamedTuple):
    """The start of the next utterance: its id, the format of its audio, and the stream id of its writer. Immutable."""

    utterance: str
    format: Format
    stream_id: int
    playout: Playout = DEFAULT_PLAYOUT


@distinct
class UtteranceEnd(NamedTuple):
    """The end of the current utterance: complete, failed (``error``), or dropped (``drop_reason``). Immutable.

    ``dropped_bytes``: audio that was written and not read.
    """

    utterance: str
    error: str | None = None
    drop_reason: str | None = None
    dropped_bytes: int = 0


@distinct
class RingClosed(NamedTuple):
    """The end of the ring: no more items can be read. Immutable."""


@distinct
class Dropped(NamedTuple):
    """An utterance that ``clear`` dropped, with its unread bytes. Immutable.

    ``was_reading``: the reader has received its ``UtteranceStart``, so an ``UtteranceEnd`` follows too. ``is_sound``:
    as in ``Playout``.
    """

    utterance: str
    unread_bytes: int
    format: Format
    was_reading: bool = False
    is_sound: bool = False

    @property
    def seconds(self) -> float:
        return self.format.seconds_of(self.unread_bytes)


class _Stream:
    """One utterance in the ring. Not thread-safe; protected by the lock of the ring."""

    def __init__(self, stream_id: int, utterance: str, format: Format, playout: Playout) -> None:
        self.stream_id, self.utterance, self.format, self.playout = stream_id, utterance, format, playout
        self.unread = bytearray()
        self.arrivals: list[tuple[float, int]] = []  # since the last call of arrivals()
        self.is_reading = self.is_ended = False
        self.error: str | None = None


class RingBuffer:
    """A bounded queue of utterances and their audio (s16le). Thread-safe; a full ring blocks the writer.

    One thread writes (``begin``, ``write``, ``end``) and one thread reads (``read``, ``wait_readable``). Every thread
    may use ``clear``, ``close`` and the properties. Utterances are read in the order of ``begin``, each completely
    before the next. So the writer must end an utterance before it fills the ring with the next one: otherwise the
    reader never makes room. The counters only grow, and ``written_bytes`` = ``read_bytes`` + ``dropped_bytes`` +
    ``unread_bytes``.

    After ``clear`` has returned, no byte that was written before it is ever read.

    Args:
        capacity_bytes: Size of the ring.
        changed: Condition whose lock protects the ring. A caller that passes it can hold its lock to make several calls
            atomic.

    Raises:
        ValueError: If the capacity is below ``MIN_CAPACITY_BYTES``.
    """

    def __init__(self, capacity_bytes: int, changed: threading.Condition | None = None) -> None:
        if capacity_bytes < MIN_CAPACITY_BYTES:
            raise ValueError(f"a ring of {capacity_bytes} bytes is too small: the minimum is {MIN_CAPACITY_BYTES}")
        self.capacity_bytes = capacity_bytes
        lock = threading.RLock()
        self._changed = changed or threading.Condition(lock)
        # A separate condition: the speaker mostly waits for clear(), and with a shared condition each write would wake
        # it.
        self._cleared = changed or threading.Condition(lock)
        self._bypass: Callable[[memoryview], int] | None = None  # set while the reader waits for audio
        self._streams: deque[_Stream] = deque()
        self._open: dict[int, _Stream] = {}  # writable streams by id
        self._cleared_end: UtteranceEnd | None = None  # of the utterance that was cleared while it was being read
        self._last_stream_id = self._last_gone_id = 0  # streams end in the order in which they began
        self._written = self._read = self._dropped = self._unread = 0  # bytes
        self._closed = False

    # --- for the writer

    def begin(self, utterance: str, format: Format, playout: Playout = DEFAULT_PLAYOUT) -> int:
        """Append an utterance with audio in ``format``; return its stream id, 0 after ``close``."""
        with self._changed:
            if self._closed:
                return 0
            self._last_stream_id += 1
            stream = _Stream(self._last_stream_id, utterance, format, playout)
            self._streams.append(stream)
            self._open[stream.stream_id] = stream
            self._changed.notify_all()
            return stream.stream_id

    def write(self, stream_id: int, data: bytes, arrived_at: float | None = None) -> bool:
        """Write ``data``, in parts if necessary, and block while the ring is full.

        Args:
            stream_id: The utterance.
            data: Its next audio.
            arrived_at: The earliest monotonic time at which ``data`` may have arrived; ``None``: now.

        Returns:
            ``True`` when all of ``data`` was written. ``False`` if the utterance was cleared or the ring was closed,
            also while the call waits; the rest of ``data`` is then dropped.
        """
        rest = memoryview(data)
        with self._changed:
            while stream := self._open.get(stream_id):
                if self._bypass is not None and stream is self._current() and not stream.unread:
                    taken = self._bypass(rest)
                    self._written += taken
                    self._read += taken
                    if taken == len(rest):
                        return True
                    rest = rest[taken:]
                part = rest[: self.capacity_bytes - self._unread]
                if part:
                    self._note_arrival(stream, len(part), arrived_at)
                    stream.unread += part
                    self._unread += len(part)
                    self._written += len(part)
                    rest = rest[len(part) :]
                    self._changed.notify_all()
                if not rest:
                    return True
                self._changed.wait()
        return False

    @property
    def room_bytes(self) -> int:
        """Bytes that ``write`` accepts without blocking. Only for the writer; other threads can only add room."""
        return self.capacity_bytes - self._unread

    def wait_writable(self, stream_id: int, timeout_seconds: float | None) -> bool:
        """Wait until ``write`` would not block: there is room, or the utterance has ended. Return ``False`` on timeout.

        For a writer that must send heartbeats while it waits.
        """
        if self._unread < self.capacity_bytes:
            return True  # without the lock: only this thread adds bytes
        with self._changed:
            return self._changed.wait_for(
                lambda: self._unread < self.capacity_bytes or stream_id not in self._open, timeout_seconds
            )

    def end(self, stream_id: int, error: str | None = None) -> None:
        """End the utterance; ``error`` says why it is incomplete. Idempotent; no effect after ``clear``."""
        with self._changed:
            stream = self._open.pop(stream_id, None)
            if stream is not None:
                stream.is_ended, stream.error = True, error
                self._changed.notify_all()

    # --- for the reader

    def read(
        self,
        max_bytes: int,
        timeout_seconds: float | None,
        bypass: Callable[[memoryview], int] | None = None,
    ) -> UtteranceStart | bytes | UtteranceEnd | RingClosed | None:
        """Return the next item in order.

        Args:
            max_bytes: Upper limit of the returned audio. A limit below one frame still returns one frame.
            timeout_seconds: Longest wait; ``None``: no limit.
            bypass: The writing thread calls it with new audio while this call waits. It returns the number of bytes
                that it has taken, possibly 0, and must not block for long. These bytes count as read, and the wait
                continues. This saves the switch to the reading thread, which takes longer than all other work on a
                piece of audio.

        Returns:
            ``None`` on timeout. Audio consists of whole frames of one utterance; only the last bytes of an utterance
            may be an incomplete frame. Every ``UtteranceStart`` is followed by exactly one ``UtteranceEnd``, before any
            item of the next utterance.
        """
        deadline = Deadline(timeout_seconds)
        with self._changed:
            while True:
                item = self._next_item(max_bytes)
                if item is not None or deadline.is_expired:
                    return item
                self._bypass = bypass
                self._changed.wait(deadline.remaining())
                self._bypass = None

    def read_audio(self, max_bytes: int, timeout_seconds: float) -> bytes | None:
        """Return the next audio of the current utterance, as ``read`` does; leave every other item in the ring.

        Returns:
            The audio; empty bytes if the next item is not audio; ``None`` on timeout.
        """
        with self._changed:
            stream = self._current()
            if stream is not None:
                frame_bytes = stream.format.frame_bytes
                if not self._is_readable(frame_bytes) and not self._changed.wait_for(
                    lambda: self._is_readable(frame_bytes), timeout_seconds
                ):
                    return None
                stream = self._current()  # it may have been cleared
            return b"" if stream is None else self._take(stream, max_bytes)

    def wait_readable(self, nbytes: int, timeout_seconds: float | None) -> bool:
        """Wait until ``nbytes`` of the current utterance are unread or no more can arrive; return ``False`` on timeout.

        No more can arrive if the utterance is ended or cleared, if the ring is full, or if there is no current
        utterance.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._is_readable(nbytes), timeout_seconds)

    def wait_cleared(self, stream_id: int, timeout_seconds: float) -> bool:
        """Wait until the utterance is no longer active; a return of ``False`` may precede the timeout.

        For a reader that waits for the card and must stop when the utterance is cancelled.
        """
        with self._changed:
            if self._is_active(stream_id):
                self._cleared.wait(timeout_seconds)
            return not self._is_active(stream_id)

    def arrivals(self) -> list[tuple[float, int]]:
        """Return the arrivals of the current utterance since the last call: monotonic time and bytes, oldest first.

        Without ``arrived_at``, data for which ``write`` had to wait counts as arrived when it is in the ring.
        """
        with self._changed:
            stream = self._current()
            if stream is None:
                return []
            arrivals, stream.arrivals = stream.arrivals, []
            return arrivals

    @property
    def is_fully_read(self) -> bool:
        """Whether the current utterance is ended and read: its ``UtteranceEnd`` is the next item."""
        with self._changed:
            stream = self._current()
            return stream is not None and stream.is_ended and not stream.unread

    @property
    def is_full(self) -> bool:
        """Whether ``write`` blocks."""
        with self._changed:
            return self._unread >= self.capacity_bytes

    @property
    def buffered_bytes(self) -> int:
        """Unread bytes of the current utterance; 0 if there is none."""
        with self._changed:
            stream = self._current()
            return len(stream.unread) if stream else 0

    @property
    def is_complete(self) -> bool:
        """Whether the writer has ended the current utterance; ``False`` if there is none."""
        with self._changed:
            stream = self._current()
            return stream.is_ended if stream else False

    # --- for every thread

    def is_active(self, stream_id: int) -> bool:
        """Return whether the utterance was begun, not cleared, and its ``UtteranceEnd`` not read."""
        with self._changed:
            return self._is_active(stream_id)

    def clear(self, reason: str) -> list[Dropped]:
        """Drop all unread audio of all utterances; wake the writer and the reader.

        If there is a current utterance, the next item of the reader is ``UtteranceEnd(drop_reason=reason)``. All stream
        ids become invalid.

        Returns:
            The dropped utterances, oldest first.
        """
        with self._changed:
            dropped = [
                Dropped(each.utterance, len(each.unread), each.format, each.is_reading, each.playout.is_sound)
                for each in self._streams
            ]
            current = self._current()
            if current is not None:
                self._cleared_end = UtteranceEnd(
                    current.utterance, drop_reason=reason, dropped_bytes=len(current.unread)
                )
            self._dropped += self._unread
            self._unread = 0
            self._last_gone_id = self._last_stream_id
            self._streams.clear()
            self._open.clear()
            self._changed.notify_all()
            self._cleared.notify_all()
            return dropped

    def close(self) -> None:
        """Close the ring. Idempotent.

        The reader receives the remaining items and then ``RingClosed``; ``write`` returns ``False``.
        """
        with self._changed:
            self._closed = True
            for stream in self._open.values():
                stream.is_ended, stream.error = True, CLOSED_EARLY
            self._open.clear()
            self._changed.notify_all()

    @property
    def written_bytes(self) -> int:
        """Bytes written since construction."""
        with self._changed:
            return self._written

    @property
    def read_bytes(self) -> int:
        """Bytes read since construction."""
        with self._changed:
            return self._read

    @property
    def dropped_bytes(self) -> int:
        """Bytes dropped by ``clear`` since construction."""
        with self._changed:
            return self._dropped

    @property
    def unread_bytes(self) -> int:
        """Unread bytes of all utterances, at most the capacity."""
        with self._changed:
            return self._unread

    # --- internal, with the lock held

    def _current(self) -> _Stream | None:
        return self._streams[0] if self._streams and self._streams[0].is_reading else None

    def _is_active(self, stream_id: int) -> bool:
        return self._last_gone_id < stream_id <= self._last_stream_id

    @staticmethod
    def _note_arrival(stream: _Stream, nbytes: int, arrived_at: float | None) -> None:
        now = time.monotonic() if arrived_at is None else arrived_at
        if stream.arrivals and now - stream.arrivals[-1][0] < SAME_ARRIVAL_SECONDS:
            at, before = stream.arrivals[-1]
            stream.arrivals[-1] = (at, before + nbytes)
        else:
            stream.arrivals.append((now, nbytes))

    def _is_readable(self, nbytes: int) -> bool:
        stream = self._current()
        return stream is None or stream.is_ended or len(stream.unread) >= nbytes or self._unread >= self.capacity_bytes

    def _next_item(self, max_bytes: int) -> UtteranceStart | bytes | UtteranceEnd | RingClosed | None:
        if self._cleared_end is not None:
            end, self._cleared_end = self._cleared_end, None
            return end
        if not self._streams:
            return RingClosed() if self._closed else None
        stream = self._streams[0]
        if not stream.is_reading:
            stream.is_reading = True
            return UtteranceStart(stream.utterance, stream.format, stream.stream_id, stream.playout)
        if stream.unread:
            return self._take(stream, max_bytes) or None
        if stream.is_ended:
            self._streams.popleft()
            self._last_gone_id = stream.stream_id
            return UtteranceEnd(stream.utterance, stream.error)
        return None

    def _take(self, stream: _Stream, max_bytes: int) -> bytes:
        frame_bytes = stream.format.frame_bytes
        limit = max(max_bytes, frame_bytes)
        size = min(limit - limit % frame_bytes, len(stream.unread))
        # An incomplete frame stays in the ring until the rest of it arrives, or the utterance ends without the rest.
        if size % frame_bytes and not stream.is_ended:
            size -= size % frame_bytes
        data = bytes(stream.unread[:size])
        del stream.unread[:size]
        self._unread -= size
        self._read += size
        if data:
            self._changed.notify_all()
        return data

"""The ring: sound on its way from the network to the sound card."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from agent.audio.format import Format
from agent.system.threads import Deadline

SMALLEST_CAPACITY = 64
CLOSED_EARLY = "the speaker was closed before the end of it"
SAME_MOMENT_SECONDS = 0.002
"""What comes within this time after something else came with it."""


@dataclass(frozen=True, slots=True)
class UtteranceStart:
    """The next utterance: its id, the format of its bytes, and the ticket its writer holds."""

    utterance: str
    format: Format
    stream_id: int


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """The utterance that was being read is over: complete, broken off (``error``), or cut (``cleared_by``), with
    ``cut_bytes`` unread."""

    utterance: str
    error: str | None = None
    drop_reason: str | None = None
    dropped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RingClosed:
    """Nothing will ever be read again."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What ``clear()`` dropped of an utterance, in bytes. ``began``: its reader had begun it and will be told too."""

    utterance: str
    unread_bytes: int
    format: Format
    was_reading: bool = False

    @property
    def seconds(self) -> float:
        return self.format.seconds_of(self.unread_bytes)


@dataclass(slots=True)
class _Sound:
    """One utterance in the ring: what has been written of it and not been read."""

    stream_id: int
    utterance: str
    format: Format
    unread: bytearray = field(default_factory=bytearray)
    arrivals: list[tuple[float, int]] = field(default_factory=list)  # since the reader last asked
    is_reading: bool = False
    ended: bool = False
    error: str | None = None


class RingBuffer:
    """Sound on its way from the network to the sound card. When full the writer waits: late sound is worth waiting for.

    One thread writes (``begin``, ``write``, ``end``), one thread reads (``read``, ``wait_filled``); ``clear``,
    ``close`` and the counters are for every thread. Utterances are read in the order in which they were begun, each
    whole before the next, so a writer ends one before it fills the ring with another. ``written``, ``played`` and
    ``cut`` count bytes and only grow, so "played to here" is a comparison; what was written was played, or cut, or is
    held.

    After ``clear()`` has returned, no byte that was written before it is ever read.
    """

    def __init__(self, capacity_bytes: int) -> None:
        if capacity_bytes < SMALLEST_CAPACITY:
            raise ValueError(f"a ring of {capacity_bytes} bytes is too small: at least {SMALLEST_CAPACITY}")
        self.capacity_bytes = capacity_bytes
        self._changed = threading.Condition()
        self._sounds: deque[_Sound] = deque()
        self._open: dict[int, _Sound] = {}
        self._farewell: UtteranceEnd | None = None  # of the utterance that was cut while it was being read
        self._tickets = 0
        self._written = self._played = self._cut = self._held = 0
        self._closed = False

    # --- the writer's side

    def begin(self, utterance: str, format: Format) -> int:
        """Opens an utterance whose sound is in ``format``, behind all that were begun before; returns its ticket."""
        with self._changed:
            self._tickets += 1
            if not self._closed:
                sound = _Sound(self._tickets, utterance, format)
                self._sounds.append(sound)
                self._open[sound.stream_id] = sound
                self._changed.notify_all()
            return self._tickets

    def write(self, stream_id: int, data: bytes) -> bool:
        """Puts all of ``data`` into the ring, in parts where it must, waiting while the ring is full.

        False, at once and also in the middle of waiting, when the utterance was cleared or the ring was closed: then
        what was not yet taken is dropped and the writer need not bring more.
        """
        rest = memoryview(data)
        with self._changed:
            while sound := self._open.get(stream_id):
                part = rest[: self.capacity_bytes - self._held]
                if part:
                    self._mark(sound, len(part))
                    sound.unread += part
                    self._held += len(part)
                    self._written += len(part)
                    rest = rest[len(part) :]
                    self._changed.notify_all()
                if not rest:
                    return True
                self._changed.wait()
        return False

    def wait_writable(self, stream_id: int, timeout_seconds: float | None) -> bool:
        """Waits until ``write`` would take something, or return False, at once; False when the time is over first.

        For a writer that has something else to do meanwhile, such as showing that it is alive.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._held < self.capacity_bytes or stream_id not in self._open, timeout_seconds
            )

    def end(self, stream_id: int, error: str | None = None) -> None:
        """The utterance's sound is complete, or broke off where ``error`` says why. Safe twice, and after a clear."""
        with self._changed:
            sound = self._open.pop(stream_id, None)
            if sound is not None:
                sound.ended, sound.error = True, error
                self._changed.notify_all()

    # --- the reader's side

    def read(
        self, max_bytes: int, timeout_seconds: float | None
    ) -> UtteranceStart | bytes | UtteranceEnd | RingClosed | None:
        """What comes next, strictly in order; ``None`` when nothing came in time.

        Bytes are whole samples of every channel (only the last of an utterance may be a fragment, where its writer
        wrote one), at most ``max_bytes`` but at least one sample of every channel, and never of two utterances. Every
        ``Began`` is followed by exactly one ``Finished``, before anything of the next utterance.
        """
        deadline = Deadline(timeout_seconds)
        with self._changed:
            while True:
                found = self._next(max_bytes)
                if found is not None or deadline.is_expired:
                    return found
                self._changed.wait(deadline.remaining())

    def wait_readable(self, nbytes: int, timeout_seconds: float | None) -> bool:
        """Waits until ``nbytes`` of the utterance being read are there, or all there will be; False if not in time.

        All there will be: the utterance is complete or was cut, the ring is full, or nothing is being read.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._filled(nbytes), timeout_seconds)

    def wait_cleared(self, stream_id: int, timeout_seconds: float) -> bool:
        """Waits until that utterance has been cut or everything of it read, and tells whether it was; for a reader that
        has to wait for something else, and must not go on when the utterance is not wanted any more."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._valid(stream_id), timeout_seconds)

    def arrivals(self) -> list[tuple[float, int]]:
        """When, on the monotonic clock, how many bytes of the utterance being read have come since this was last asked,
        oldest first. What had to wait for room came when there was room."""
        with self._changed:
            sound = self._reading()
            if sound is None:
                return []
            arrivals, sound.arrivals = sound.arrivals, []
            return arrivals

    @property
    def is_fully_read(self) -> bool:
        """Whether all of the utterance being read has been written and read: its ``Finished`` comes next."""
        with self._changed:
            sound = self._reading()
            return sound is not None and sound.ended and not sound.unread

    @property
    def is_full(self) -> bool:
        """Whether the writer has to wait."""
        with self._changed:
            return self._held >= self.capacity_bytes

    @property
    def buffered_bytes(self) -> int:
        """Unread bytes of the utterance that is being read; 0 where none is."""
        with self._changed:
            sound = self._reading()
            return len(sound.unread) if sound else 0

    @property
    def is_complete(self) -> bool:
        """Whether the utterance that is being read has been ended by its writer; False where none is being read."""
        with self._changed:
            sound = self._reading()
            return sound.ended if sound else False

    # --- everybody's side

    def is_active(self, stream_id: int) -> bool:
        """Whether that utterance is still to be heard: begun, not cut, and its ``Finished`` not read yet."""
        with self._changed:
            return self._valid(stream_id)

    def clear(self, by: str) -> list[Dropped]:
        """Drops everything unread, of all utterances; ``by`` says who wanted it. Wakes the writer and the reader.

        The utterance that is being read, if any, comes to the reader as ``Finished(cleared_by=by)`` next; the others
        are in the returned list alone, oldest first. Every open ticket is worth nothing afterwards.
        """
        with self._changed:
            cuts = [
                Dropped(sound.utterance, len(sound.unread), sound.format, sound.is_reading) for sound in self._sounds
            ]
            reading = self._reading()
            if reading is not None:
                self._farewell = UtteranceEnd(reading.utterance, drop_reason=by, dropped_bytes=len(reading.unread))
            self._cut += self._held
            self._held = 0
            self._sounds.clear()
            self._open.clear()
            self._changed.notify_all()
            return cuts

    def close(self) -> None:
        """No more sound: the reader gets what is left and then ``Closed``, the writer False. Safe twice."""
        with self._changed:
            self._closed = True
            for sound in self._open.values():
                sound.ended, sound.error = True, CLOSED_EARLY
            self._open.clear()
            self._changed.notify_all()

    @property
    def written_bytes(self) -> int:
        """Bytes the ring has taken since it was made."""
        with self._changed:
            return self._written

    @property
    def read_bytes(self) -> int:
        """Bytes the reader has taken since the ring was made."""
        with self._changed:
            return self._played

    @property
    def dropped_bytes(self) -> int:
        """Bytes that were dropped by ``clear()`` since the ring was made."""
        with self._changed:
            return self._cut

    @property
    def unread_bytes(self) -> int:
        """Bytes that wait in the ring, of all utterances; never more than its capacity."""
        with self._changed:
            return self._held

    # --- inside, with the lock held

    def _reading(self) -> _Sound | None:
        return self._sounds[0] if self._sounds and self._sounds[0].is_reading else None

    def _valid(self, stream_id: int) -> bool:
        return any(sound.stream_id == stream_id for sound in self._sounds)

    @staticmethod
    def _mark(sound: _Sound, nbytes: int) -> None:
        now = time.monotonic()
        if sound.arrivals and now - sound.arrivals[-1][0] < SAME_MOMENT_SECONDS:
            at, before = sound.arrivals[-1]
            sound.arrivals[-1] = (at, before + nbytes)
        else:
            sound.arrivals.append((now, nbytes))

    def _filled(self, nbytes: int) -> bool:
        sound = self._reading()
        return sound is None or sound.ended or len(sound.unread) >= nbytes or self._held >= self.capacity_bytes

    def _next(self, max_bytes: int) -> UtteranceStart | bytes | UtteranceEnd | RingClosed | None:
        if self._farewell is not None:
            farewell, self._farewell = self._farewell, None
            return farewell
        if not self._sounds:
            return RingClosed() if self._closed else None
        sound = self._sounds[0]
        if not sound.is_reading:
            sound.is_reading = True
            return UtteranceStart(sound.utterance, sound.format, sound.stream_id)
        if sound.unread:
            return self._take(sound, max_bytes) or None
        if sound.ended:
            self._sounds.popleft()
            return UtteranceEnd(sound.utterance, sound.error)
        return None

    def _take(self, sound: _Sound, max_bytes: int) -> bytes:
        step = sound.format.frame_bytes
        wanted = max(max_bytes, step)
        size = min(wanted - wanted % step, len(sound.unread))
        # A sample whose second half has not come yet waits for it; at the end of the utterance it never will come.
        if size % step and not sound.ended:
            size -= size % step
        taken = bytes(sound.unread[:size])
        del sound.unread[:size]
        self._held -= size
        self._played += size
        if taken:
            self._changed.notify_all()
        return taken

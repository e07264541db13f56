"""The audio writer thread, which replaces the speaker thread if the audio goes to a file or a pipe."""

from __future__ import annotations

from collections.abc import Callable

from agent.audio.format import Format
from agent.pipeline.events import Event, PlaybackStarted, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.ring_buffer import RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.stage import Stage

HEARTBEAT_SECONDS = 1.0
WRITE_BYTES = 65536
"""Size of the largest write: the default capacity of a pipe. A larger piece would need new memory pages each time."""


class AudioWriter(Stage):
    """Writes the utterances of the ring buffer as they arrive and reports the end of each.

    A file cannot underrun, so there is no playout delay, and no audio is held back for a fade. The thread opens and
    writes the output. ``stop`` and ``abort`` are thread-safe. The thread ends when the ring is closed and all of its
    audio was written.

    Args:
        ring: Source of the audio.
        open_output: Opens the output for a format; returns the function that writes s16le samples to it.
        report: Receives the events, in the writer thread or in the thread that calls ``take``.
        take: Writes as many samples as the output accepts without blocking; returns the number of bytes that it wrote.
            The thread that writes to the ring calls it while the writer thread waits for audio (see
            ``RingBuffer.read``). ``None``: the writer thread writes all audio.
    """

    def __init__(
        self,
        ring: RingBuffer,
        open_output: Callable[[Format], Callable[[bytes], object]],
        report: Callable[[Event], None],
        take: Callable[[memoryview], int] | None = None,
    ) -> None:
        super().__init__("writer", report)
        self._ring = ring
        self._open_output = open_output
        self._take = take
        self._utterance = ""
        self._written_bytes = 0  # of the current utterance; _bypass adds to it in the thread that writes to the ring

    def stop(self) -> None:
        """Do nothing: the end of the stream arrives through the ring."""

    def abort(self) -> None:
        """Drop all audio and end the thread after the current write."""
        self._ring.close()
        self._ring.clear("abort")

    def run(self) -> None:
        """Write until the ring is closed and empty."""
        while not isinstance(item := self._next_item(), RingClosed):
            if isinstance(item, UtteranceStart):
                self._write(item)

    def _write(self, start: UtteranceStart) -> None:
        """Write one utterance to its end."""
        self._utterance, self._written_bytes = start.utterance, 0
        write = self._open_output(start.format)
        bypass = self._bypass if self._take is not None else None
        while not isinstance(item := self._next_item(bypass), UtteranceEnd):
            if isinstance(item, RingClosed):
                return
            assert isinstance(item, bytes)
            write(item)
            self._count(len(item))
        self.report(_end_event(item, start.format.seconds_of(self._written_bytes), start.format))

    def _next_item(
        self, bypass: Callable[[memoryview], int] | None = None
    ) -> UtteranceStart | bytes | UtteranceEnd | RingClosed:
        while (item := self._ring.read(WRITE_BYTES, HEARTBEAT_SECONDS, bypass)) is None:
            self.heartbeat()
        self.heartbeat()
        return item

    def _bypass(self, pcm: memoryview) -> int:
        assert self._take is not None
        if taken := self._take(pcm):
            self._count(taken)
        return taken

    def _count(self, nbytes: int) -> None:
        if not self._written_bytes:
            self.report(PlaybackStarted(self._utterance))
        self._written_bytes += nbytes


def _end_event(end: UtteranceEnd, seconds: float, format: Format) -> Event:
    if end.drop_reason is not None:
        return UtteranceCancelled(end.utterance, end.drop_reason, seconds, format.seconds_of(end.dropped_bytes))
    if end.error is not None:
        return UtteranceFailed(end.utterance, end.error, seconds)
    return UtterancePlayed(end.utterance, seconds)

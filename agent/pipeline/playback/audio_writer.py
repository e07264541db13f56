"""The writer thread: takes the speaker's place where the audio goes to a file or a pipe."""

from __future__ import annotations

from collections.abc import Callable

from agent.audio.format import Format
from agent.pipeline.events import Event, PlaybackStarted, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.ring_buffer import RingBuffer, RingClosed, UtteranceEnd, UtteranceStart
from agent.pipeline.stage import Stage

HEARTBEAT_SECONDS = 1.0


class AudioWriter(Stage):
    """Writes the utterances of the ring buffer as they arrive and reports the end of each.

    A file has no deadline for its next sample. So nothing is buffered before the first one, nothing is held back for a
    fade, and each piece is written whole. The thread opens and writes the output. ``stop`` and ``abort`` are
    thread-safe. The thread ends when the ring is closed and everything in it was written.

    Args:
        ring: Source of the audio.
        open_output: Opens the output for a format; returns the function that writes s16le samples to it.
        report: Receives the events, in this thread.
    """

    def __init__(
        self,
        ring: RingBuffer,
        open_output: Callable[[Format], Callable[[bytes], object]],
        report: Callable[[Event], None],
    ) -> None:
        super().__init__("writer", report)
        self._ring = ring
        self._open_output = open_output

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
        write = self._open_output(start.format)
        written_bytes = 0
        while not isinstance(item := self._next_item(), UtteranceEnd):
            if isinstance(item, RingClosed):
                return
            assert isinstance(item, bytes)
            write(item)
            if not written_bytes:
                self.report(PlaybackStarted(start.utterance))
            written_bytes += len(item)
        self.report(_end_event(item, start.format.seconds_of(written_bytes), start.format))

    def _next_item(self) -> UtteranceStart | bytes | UtteranceEnd | RingClosed:
        while (item := self._ring.read(self._ring.capacity_bytes, HEARTBEAT_SECONDS)) is None:
            self.heartbeat()
        self.heartbeat()
        return item


def _end_event(end: UtteranceEnd, seconds: float, format: Format) -> Event:
    if end.drop_reason is not None:
        return UtteranceCancelled(end.utterance, end.drop_reason, seconds, format.seconds_of(end.dropped_bytes))
    if end.error is not None:
        return UtteranceFailed(end.utterance, end.error, seconds)
    return UtterancePlayed(end.utterance, seconds)

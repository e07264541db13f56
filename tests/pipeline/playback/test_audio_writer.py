"""AudioWriter: each piece is written whole when it arrives, and every utterance ends in one event."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest

from agent.audio.format import Format
from agent.pipeline.events import Event, PlaybackStarted, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.pipeline.playback.audio_writer import AudioWriter
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.system.threads import Deadline

FORMAT = Format(16000)
SECONDS = 30.0
PIECE = bytes(range(256)) * 10  # 0.08 s


class Rig:
    """A writer on a ring, and all pieces that it wrote."""

    def __init__(self) -> None:
        self.ring = RingBuffer(1 << 20)
        self.pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.formats: list[Format] = []
        self.writer = AudioWriter(self.ring, self._open, self.events.put)

    def _open(self, format: Format):
        self.formats.append(format)
        return self.pieces.put

    def event(self) -> Event:
        return self.events.get(timeout=SECONDS)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.writer.start()
    yield rig
    rig.ring.close()
    assert rig.writer.join(Deadline(SECONDS))


def test_piece_is_written_whole_before_the_next_one_arrives(rig: Rig) -> None:
    stream = rig.ring.begin("u", FORMAT)
    for _ in range(3):
        rig.ring.write(stream, PIECE)
        assert rig.pieces.get(timeout=SECONDS) == PIECE
    rig.ring.end(stream)
    assert rig.event() == PlaybackStarted("u")
    assert rig.event() == UtterancePlayed("u", FORMAT.seconds_of(3 * len(PIECE)))
    assert rig.formats == [FORMAT]


def test_failed_utterance_is_reported_with_its_written_audio(rig: Rig) -> None:
    stream = rig.ring.begin("u", FORMAT)
    rig.ring.write(stream, PIECE)
    rig.ring.end(stream, "the service closed")
    assert rig.event() == PlaybackStarted("u")
    assert rig.event() == UtteranceFailed("u", "the service closed", FORMAT.seconds_of(len(PIECE)))


def test_cleared_utterance_is_cancelled(rig: Rig) -> None:
    stream = rig.ring.begin("u", FORMAT)
    rig.ring.write(stream, PIECE)
    assert rig.event() == PlaybackStarted("u")
    rig.ring.clear("hush")
    assert rig.event() == UtteranceCancelled("u", "hush", FORMAT.seconds_of(len(PIECE)), 0.0)


def test_odd_bytes_at_the_end_are_written(rig: Rig) -> None:
    stream = rig.ring.begin("u", FORMAT)
    rig.ring.write(stream, PIECE + b"x")
    rig.ring.end(stream)
    assert isinstance(rig.event(), PlaybackStarted)
    assert isinstance(rig.event(), UtterancePlayed)
    assert b"".join(rig.pieces.get() for _ in range(rig.pieces.qsize())) == PIECE + b"x"


def test_abort_ends_the_thread() -> None:
    rig = Rig()
    rig.writer.start()
    rig.ring.begin("u", FORMAT)
    rig.writer.abort()
    assert rig.writer.join(Deadline(SECONDS))


def test_pieces_that_the_output_takes_at_once_keep_their_order_and_are_counted() -> None:
    ring, events = RingBuffer(1 << 20), queue.SimpleQueue[Event]()
    written: list[bytes] = []

    def take(pcm: memoryview) -> int:  # half of each piece, as a pipe that is almost full
        written.append(bytes(pcm[: len(pcm) // 2]))
        return len(pcm) // 2

    writer = AudioWriter(ring, lambda format: written.append, events.put, take)
    writer.start()
    pieces = [bytes([number]) * 320 for number in range(50)]
    stream = ring.begin("u", FORMAT)
    for piece in pieces:
        ring.write(stream, piece)
    ring.end(stream)
    assert events.get(timeout=SECONDS) == PlaybackStarted("u")
    assert events.get(timeout=SECONDS) == UtterancePlayed("u", FORMAT.seconds_of(50 * 320))
    ring.close()
    assert writer.join(Deadline(SECONDS))
    assert b"".join(written) == b"".join(pieces)
    assert ring.written_bytes == ring.read_bytes == 50 * 320

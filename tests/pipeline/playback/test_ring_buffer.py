"""Ring buffer: order, blocking, and no old audio after a clear."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.audio.format import Format
from agent.pipeline.playback.ring_buffer import Dropped, RingBuffer, RingClosed, UtteranceEnd, UtteranceStart

MONO = Format(24000)
STEREO = Format(48000, 2)
TIMEOUT_SECONDS = 30.0


class Running:
    """A call in its own thread."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._result.append(self._call())

    def result(self) -> Any:
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive(), "the call did not return"
        return self._result[0]


def drain(ring: RingBuffer, max_bytes: int = 7) -> list[Any]:
    """Read everything without waiting; join consecutive bytes."""
    items: list[Any] = []
    while (item := ring.read(max_bytes, 0)) is not None:
        if isinstance(item, bytes) and items and isinstance(items[-1], bytes):
            items[-1] += item
        else:
            items.append(item)
        if isinstance(item, RingClosed):
            break
    return items


def test_read_returns_start_audio_and_end() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    assert ring.write(stream_id, b"abcdef")
    ring.end(stream_id)
    assert ring.read(4, 0) == UtteranceStart("one", MONO, stream_id)
    assert ring.read(4, 0) == b"abcd"
    assert ring.read(4, 0) == b"ef"
    assert ring.read(4, 0) == UtteranceEnd("one")
    assert ring.read(4, 0) is None


def test_read_never_crosses_utterances() -> None:
    ring = RingBuffer(64)
    for name in ("one", "two"):
        stream_id = ring.begin(name, MONO)
        ring.write(stream_id, name.encode() * 2)
        ring.end(stream_id)
    read = [ring.read(1000, 0) for _ in range(6)]
    assert read[1::3] == [b"oneone", b"twotwo"]
    assert read[2::3] == [UtteranceEnd("one"), UtteranceEnd("two")]


def test_read_joins_small_writes() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    for piece in (b"ab", b"cd", b"ef"):
        ring.write(stream_id, piece)
    ring.read(1, 0)
    assert ring.read(6, 0) == b"abcdef"


def test_end_with_error_follows_the_audio() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.write(stream_id, b"ab")
    ring.end(stream_id, "the service broke off")
    assert drain(ring) == [
        UtteranceStart("one", MONO, stream_id),
        b"ab",
        UtteranceEnd("one", error="the service broke off"),
    ]


def test_read_returns_none_on_timeout() -> None:
    ring = RingBuffer(64)
    assert ring.read(4, 0.01) is None
    ring.begin("one", MONO)
    assert isinstance(ring.read(4, 0.01), UtteranceStart)
    assert ring.read(4, 0.01) is None


def test_write_blocks_while_ring_is_full() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.write(stream_id, bytes(64))
    assert not ring.wait_writable(stream_id, 0.01)
    writer = Running(lambda: ring.write(stream_id, b"more"))
    assert isinstance(ring.read(64, TIMEOUT_SECONDS), UtteranceStart)
    assert ring.unread_bytes == 64  # the writer is blocked
    assert ring.read(64, TIMEOUT_SECONDS) == bytes(64)
    assert writer.result() is True
    assert ring.read(64, 0) == b"more"


def test_write_larger_than_the_ring_is_split() -> None:
    ring = RingBuffer(64)
    data = bytes(range(256)) * 40
    stream_id = ring.begin("one", MONO)
    writer = Running(lambda: (ring.write(stream_id, data), ring.end(stream_id)))
    heard = b""
    while not isinstance(item := ring.read(20, TIMEOUT_SECONDS), UtteranceEnd):
        if isinstance(item, bytes):
            heard += item
            assert ring.unread_bytes <= 64
    assert heard == data
    assert writer.result()[0] is True


def test_clear_wakes_writer_and_reader() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    assert isinstance(ring.read(4, 0), UtteranceStart)
    reader = Running(lambda: ring.read(4, TIMEOUT_SECONDS))
    assert ring.clear("button") == [Dropped("one", 0, MONO, was_reading=True)]
    assert reader.result() == UtteranceEnd("one", drop_reason="button")

    stream_id = ring.begin("two", MONO)
    ring.read(4, 0)
    writer = Running(lambda: ring.write(stream_id, bytes(1000)))
    assert ring.wait_readable(64, TIMEOUT_SECONDS)
    assert ring.clear("button") == [Dropped("two", 64, MONO, was_reading=True)]
    assert writer.result() is False
    assert ring.unread_bytes == 0


def test_write_to_a_cleared_stream_returns_false() -> None:
    ring = RingBuffer(64)
    old = ring.begin("old", MONO)
    ring.write(old, b"oldold")
    ring.clear("button")
    new = ring.begin("new", MONO)
    assert ring.write(old, b"oldold") is False
    ring.end(old, "too late")
    ring.write(new, b"new!")
    ring.end(new)
    assert drain(ring) == [UtteranceStart("new", MONO, new), b"new!", UtteranceEnd("new")]


def test_cleared_current_utterance_ends_before_the_next() -> None:
    ring = RingBuffer(64)
    old = ring.begin("old", MONO)
    ring.write(old, b"oldold")
    ring.read(2, 0), ring.read(2, 0)
    assert ring.clear("button") == [Dropped("old", 4, MONO, was_reading=True)]
    new = ring.begin("new", MONO)
    ring.write(new, b"new!")
    assert drain(ring) == [
        UtteranceEnd("old", drop_reason="button", dropped_bytes=4),
        UtteranceStart("new", MONO, new),
        b"new!",
    ]


def test_second_clear_keeps_the_first_reason() -> None:
    ring = RingBuffer(64)
    ring.begin("old", MONO)
    ring.read(2, 0)
    ring.clear("button")
    assert ring.begin("unheard", MONO) and ring.clear("voice") == [Dropped("unheard", 0, MONO)]
    assert drain(ring) == [UtteranceEnd("old", drop_reason="button")]


def test_clear_returns_utterances_that_were_not_started() -> None:
    ring = RingBuffer(64)
    for name in ("one", "two"):
        stream_id = ring.begin(name, MONO)
        ring.write(stream_id, b"abcd")
        ring.end(stream_id)
    ring.read(2, 0)
    assert ring.clear("button") == [Dropped("one", 4, MONO, was_reading=True), Dropped("two", 4, MONO)]
    assert drain(ring) == [UtteranceEnd("one", drop_reason="button", dropped_bytes=4)]


def test_read_returns_whole_frames() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", STEREO)
    ring.read(4, 0)
    ring.write(stream_id, b"LLRRL")
    assert ring.read(100, 0) == b"LLRR"
    assert ring.read(100, 0) is None
    ring.write(stream_id, b"LRR")
    assert ring.read(3, 0) == b"LLRR"  # never less than one frame


def test_read_rounds_down_to_whole_frames() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", STEREO)
    ring.read(4, 0)
    ring.write(stream_id, bytes(range(12)))
    assert ring.read(7, 0) == bytes(range(4))
    ring.end(stream_id)
    assert ring.read(7, 0) == bytes(range(4, 8))


def test_incomplete_frame_at_the_end_is_read() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", STEREO)
    ring.write(stream_id, b"LLRRL")
    ring.end(stream_id)
    assert drain(ring) == [UtteranceStart("one", STEREO, stream_id), b"LLRRL", UtteranceEnd("one")]


def test_wait_readable_waits_for_the_bytes() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(4, 0)
    assert not ring.wait_readable(8, 0.01)
    waiting = Running(lambda: ring.wait_readable(8, TIMEOUT_SECONDS))
    ring.write(stream_id, b"abcd")
    ring.write(stream_id, b"efgh")
    assert waiting.result() is True
    assert ring.buffered_bytes == 8


@pytest.mark.parametrize("what", ["end", "clear", "close", "full"])
def test_wait_readable_returns_when_no_more_can_arrive(what: str) -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(4, 0)
    waiting = Running(lambda: ring.wait_readable(1000, TIMEOUT_SECONDS))
    {
        "end": lambda: ring.end(stream_id),
        "clear": lambda: ring.clear("button"),
        "close": ring.close,
        "full": lambda: ring.write(stream_id, bytes(64)),
    }[what]()
    assert waiting.result() is True


def test_is_complete_and_buffered_bytes_describe_the_current_utterance() -> None:
    ring = RingBuffer(64)
    assert (ring.buffered_bytes, ring.is_complete) == (0, False)
    one = ring.begin("one", MONO)
    ring.write(one, b"abcd")
    assert ring.buffered_bytes == 0  # the reader has not started it
    ring.read(2, 0)
    assert (ring.buffered_bytes, ring.is_complete) == (4, False)
    ring.end(one)
    two = ring.begin("two", MONO)
    ring.write(two, b"ef")
    assert (ring.buffered_bytes, ring.is_complete) == (4, True)
    drain(ring)
    assert (ring.buffered_bytes, ring.is_complete) == (0, False)


def test_is_active_until_end_or_clear() -> None:
    ring = RingBuffer(64)
    one, two = ring.begin("one", MONO), ring.begin("two", MONO)
    ring.write(one, b"abcd")
    ring.end(one)
    for _ in range(2):
        ring.read(100, 0)
    assert ring.is_active(one)  # read, but not its end
    assert ring.read(100, 0) == UtteranceEnd("one")
    assert (ring.is_active(one), ring.is_active(two), ring.is_active(99)) == (False, True, False)
    ring.clear("button")
    assert not ring.is_active(two)


def test_closed_ring_returns_the_rest_and_then_ring_closed() -> None:
    ring = RingBuffer(64)
    one = ring.begin("one", MONO)
    ring.write(one, b"abcd")
    ring.close()
    ring.close()
    assert ring.write(one, b"ef") is False
    assert ring.write(ring.begin("late", MONO), b"ef") is False
    began, sound, ended, closed = drain(ring)
    assert (began, sound, closed) == (UtteranceStart("one", MONO, one), b"abcd", RingClosed())
    assert ended.error and not ended.drop_reason
    assert ring.read(4, None) == RingClosed()


def test_close_wakes_writer_and_reader() -> None:
    ring = RingBuffer(64)
    reader = Running(lambda: ring.read(4, TIMEOUT_SECONDS))
    ring.close()
    assert reader.result() == RingClosed()
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    writer = Running(lambda: ring.write(stream_id, bytes(1000)))
    ring.read(1, 0)
    assert ring.wait_readable(64, TIMEOUT_SECONDS)
    ring.close()
    assert writer.result() is False


def test_too_small_ring_raises_an_error() -> None:
    with pytest.raises(ValueError, match="too small"):
        RingBuffer(3)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(0, 2000), st.integers(2, 200))
@settings(max_examples=60, deadline=None)
def test_no_byte_from_before_a_clear_is_read_after_it(sizes: list[int], clear_after: int, period: int) -> None:
    """Each byte of an utterance is its number. A third thread clears when the reader has reached ``clear_after``."""
    ring = RingBuffer(128)
    reached, cleared = threading.Event(), threading.Event()

    def write(names: Any, amounts: list[int]) -> None:
        for name, size in zip(names, amounts, strict=True):
            stream_id = ring.begin(str(name), MONO)
            ring.write(stream_id, bytes([name]) * size * 2)
            ring.end(stream_id)

    def work() -> None:
        write(range(1, len(sizes) + 1), sizes)
        assert cleared.wait(TIMEOUT_SECONDS)
        write([200], [300])
        ring.close()

    def clear() -> set[int]:
        assert reached.wait(TIMEOUT_SECONDS)
        dropped = ring.clear("button")
        cleared.set()
        return {int(cut.utterance) for cut in dropped}

    writer, clearer = Running(work), Running(clear)
    before, after = b"", b""
    ended = 0
    while True:
        late = cleared.is_set()  # checked before the read, so the read certainly starts after the clear
        item = ring.read(period, TIMEOUT_SECONDS)
        if isinstance(item, RingClosed):
            break
        assert item is not None
        if isinstance(item, bytes):
            before, after = (before, after + item) if late else (before + item, after)
        ended += isinstance(item, UtteranceEnd)
        if not reached.is_set() and (len(before) >= clear_after or ended == len(sizes)):
            reached.set()
    writer.result()

    assert not set(after) & clearer.result()
    assert (before + after).count(200) == 600
    assert ring.read_bytes == len(before) + len(after)
    assert ring.written_bytes == ring.read_bytes + ring.dropped_bytes


class AnyOrder(RuleBasedStateMachine):
    """Every sequence of calls, compared with a list of the expected items."""

    @initialize(capacity=st.integers(64, 300))
    def make(self, capacity: int) -> None:
        self.ring = RingBuffer(capacity)
        self.capacity = capacity
        self.expected: list[Any] = []  # [name, stream id, bytearray, ended, error]
        self.current: list[Any] | None = None
        self.pending_end: UtteranceEnd | None = None
        self.cleared_ids: list[int] = []
        self.counter = 0

    @precondition(lambda self: not self.expected or self.expected[-1][3])
    @rule()
    def begin(self) -> None:
        self.counter += 1
        stream_id = self.ring.begin(str(self.counter), MONO)
        self.expected.append([str(self.counter), stream_id, bytearray(), False, None])

    @precondition(lambda self: self.expected and not self.expected[-1][3])
    @rule(data=st.binary(max_size=120))
    def write(self, data: bytes) -> None:
        data = data[: self.capacity - self.ring.unread_bytes]  # more would block; other tests cover that with threads
        assert self.ring.write(self.expected[-1][1], data) is True
        self.expected[-1][2] += data

    @precondition(lambda self: self.cleared_ids)
    @rule(data=st.binary(min_size=1, max_size=20))
    def write_to_a_cleared_stream(self, data: bytes) -> None:
        assert self.ring.write(self.cleared_ids[-1], data) is False
        self.ring.end(self.cleared_ids[-1], "late")

    @precondition(lambda self: self.expected and not self.expected[-1][3])
    @rule(error=st.sampled_from([None, "broken"]))
    def end(self, error: str | None) -> None:
        self.ring.end(self.expected[-1][1], error)
        self.expected[-1][3:] = [True, error]

    @rule()
    def clear(self) -> None:
        dropped = self.ring.clear("button")
        assert dropped == [
            Dropped(name, len(left), MONO, name == self._name()) for name, _, left, _, _ in self.expected
        ]
        if self.current:
            self.pending_end = UtteranceEnd(self.current[0], drop_reason="button", dropped_bytes=len(self.current[2]))
        self.cleared_ids += [entry[1] for entry in self.expected]
        self.expected, self.current = [], None

    @rule(max_bytes=st.integers(1, 90))
    def read(self, max_bytes: int) -> None:
        item = self.ring.read(max_bytes, 0)
        if self.pending_end:
            assert item == self.pending_end
            self.pending_end = None
        elif not self.expected:
            assert item is None
        elif not self.current:
            self.current = self.expected[0]
            assert item == UtteranceStart(self.current[0], MONO, self.current[1])
        elif isinstance(item, bytes):
            assert 0 < len(item) <= max(2, max_bytes)
            assert self.current[2].startswith(item)
            del self.current[2][: len(item)]
        elif isinstance(item, UtteranceEnd):
            assert not self.current[2] and self.current[3]
            assert item == UtteranceEnd(self.current[0], self.current[4])
            self.expected.pop(0)
            self.current = None
        else:
            assert len(self.current[2]) < 2 and not self.current[3]

    @invariant()
    def every_byte_is_accounted_for(self) -> None:
        ring = self.ring
        assert ring.written_bytes == ring.read_bytes + ring.dropped_bytes + ring.unread_bytes
        assert ring.unread_bytes == sum(len(entry[2]) for entry in self.expected) <= self.capacity
        assert ring.buffered_bytes == (len(self.current[2]) if self.current else 0)

    def _name(self) -> str | None:
        return self.current[0] if self.current else None


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_arrivals_reports_times_and_bytes() -> None:
    ring = RingBuffer(1 << 20)
    stream_id = ring.begin("one", MONO)
    before = time.monotonic()
    ring.write(stream_id, bytes(100))
    ring.write(stream_id, bytes(60))
    after = time.monotonic()
    assert ring.arrivals() == [], "nothing is being read"
    assert isinstance(ring.read(1, 0), UtteranceStart)
    arrivals = ring.arrivals()
    assert sum(nbytes for _, nbytes in arrivals) == 160
    assert all(before <= at <= after for at, _ in arrivals)
    assert ring.arrivals() == []
    ring.write(stream_id, bytes(40), after + 1.0)
    assert ring.arrivals() == [(after + 1.0, 40)]


def test_arrivals_merges_small_writes() -> None:
    ring = RingBuffer(1 << 20)
    stream_id = ring.begin("one", MONO)
    ring.read(1, 0)
    began = time.monotonic()
    for _ in range(1000):
        ring.write(stream_id, bytes(2))
    assert len(ring.arrivals()) <= 1 + (time.monotonic() - began) / 0.002


def test_read_audio_returns_audio_only() -> None:
    ring = RingBuffer(64)
    assert ring.read_audio(100, 0.0) == b"", "the start is no audio"
    stream_id = ring.begin("one", MONO)
    ring.read(1, 0)
    assert ring.read_audio(100, 0.0) is None
    ring.write(stream_id, bytes(3))
    assert ring.read_audio(100, 0.0) == bytes(2), "half a frame waits for its rest"
    assert ring.read_audio(100, 0.0) is None
    waiting = Running(lambda: ring.read_audio(100, TIMEOUT_SECONDS))
    ring.write(stream_id, b"a")
    assert waiting.result() == b"\0a"
    ring.end(stream_id)
    assert ring.read_audio(100, 0.0) == b"" and ring.read(1, 0) == UtteranceEnd("one")
    stream_id = ring.begin("two", MONO)
    ring.read(1, 0)
    waiting = Running(lambda: ring.read_audio(100, TIMEOUT_SECONDS))
    ring.clear("test")
    assert waiting.result() == b""
    ring.close()
    assert ring.begin("three", MONO) == 0 and not ring.is_active(0)


def test_wait_cleared_returns_on_clear() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(1, 0)
    ring.write(stream_id, bytes(10))
    assert not ring.wait_cleared(stream_id, 0.0)
    waiting = Running(lambda: ring.wait_cleared(stream_id, TIMEOUT_SECONDS))
    ring.clear("test")
    assert waiting.result()


def test_is_fully_read_until_the_end_is_read() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(1, 0)
    ring.write(stream_id, bytes(10))
    ring.end(stream_id)
    assert not ring.is_fully_read
    ring.read(10, 0)
    assert ring.is_fully_read and ring.is_active(stream_id)
    assert ring.read(10, 0) == UtteranceEnd("one")
    assert not ring.is_fully_read and ring.wait_cleared(stream_id, 0.0)


def test_a_ring_says_when_it_is_full() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.write(stream_id, bytes(63))
    assert not ring.is_full
    ring.write(stream_id, bytes(1))
    assert ring.is_full


def test_waiting_reader_takes_audio_in_the_thread_of_the_writer() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    assert isinstance(ring.read(4, 0), UtteranceStart)
    taken: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()

    def take(data: memoryview) -> int:
        taken.put((bytes(data), threading.get_ident()))
        return 2

    reader = Running(lambda: ring.read(64, TIMEOUT_SECONDS, take))
    rest = b"abcdef"
    for _ in range(1000):  # until the reader waits, the audio is buffered for it
        assert ring.write(stream_id, rest)
        if not taken.empty():
            break
        assert reader.result() == rest
        reader = Running(lambda: ring.read(64, TIMEOUT_SECONDS, take))
    assert taken.get_nowait() == (rest, threading.get_ident())
    assert reader.result() == rest[2:]
    ring.end(stream_id)
    assert ring.read(4, 0) == UtteranceEnd("one")
    assert ring.written_bytes == ring.read_bytes

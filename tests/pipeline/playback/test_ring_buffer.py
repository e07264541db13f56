"""The ring: order, waiting, and that nothing old is heard after a clear."""

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
BOUND = 30.0


class Running:
    """A call in a thread of its own, whose result can be waited for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._result.append(self._call())

    def result(self) -> Any:
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "the call never came back"
        return self._result[0]


def drain(ring: RingBuffer, max_bytes: int = 7) -> list[Any]:
    """All that can be read without waiting, with neighbouring bytes joined."""
    things: list[Any] = []
    while (thing := ring.read(max_bytes, 0)) is not None:
        if isinstance(thing, bytes) and things and isinstance(things[-1], bytes):
            things[-1] += thing
        else:
            things.append(thing)
        if isinstance(thing, RingClosed):
            break
    return things


def test_an_utterance_is_read_as_its_beginning_its_bytes_and_its_end() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    assert ring.write(stream_id, b"abcdef")
    ring.end(stream_id)
    assert ring.read(4, 0) == UtteranceStart("one", MONO, stream_id)
    assert ring.read(4, 0) == b"abcd"
    assert ring.read(4, 0) == b"ef"
    assert ring.read(4, 0) == UtteranceEnd("one")
    assert ring.read(4, 0) is None


def test_bytes_never_cross_the_boundary_between_utterances() -> None:
    ring = RingBuffer(64)
    for name in ("one", "two"):
        stream_id = ring.begin(name, MONO)
        ring.write(stream_id, name.encode() * 2)
        ring.end(stream_id)
    read = [ring.read(1000, 0) for _ in range(6)]
    assert read[1::3] == [b"oneone", b"twotwo"]
    assert read[2::3] == [UtteranceEnd("one"), UtteranceEnd("two")]


def test_small_writes_are_joined_to_the_size_that_is_asked_for() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    for piece in (b"ab", b"cd", b"ef"):
        ring.write(stream_id, piece)
    ring.read(1, 0)
    assert ring.read(6, 0) == b"abcdef"


def test_a_broken_utterance_says_why_after_what_there_is_of_it() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.write(stream_id, b"ab")
    ring.end(stream_id, "the service broke off")
    assert drain(ring) == [
        UtteranceStart("one", MONO, stream_id),
        b"ab",
        UtteranceEnd("one", error="the service broke off"),
    ]


def test_nothing_within_the_timeout_is_none() -> None:
    ring = RingBuffer(64)
    assert ring.read(4, 0.01) is None
    ring.begin("one", MONO)
    assert isinstance(ring.read(4, 0.01), UtteranceStart)
    assert ring.read(4, 0.01) is None


def test_a_full_ring_makes_the_writer_wait() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.write(stream_id, bytes(64))
    assert not ring.wait_writable(stream_id, 0.01)
    writer = Running(lambda: ring.write(stream_id, b"more"))
    assert isinstance(ring.read(64, BOUND), UtteranceStart)
    assert ring.unread_bytes == 64  # the writer has not been let in
    assert ring.read(64, BOUND) == bytes(64)
    assert writer.result() is True
    assert ring.read(64, 0) == b"more"


def test_a_write_larger_than_the_ring_goes_through_in_parts() -> None:
    ring = RingBuffer(64)
    data = bytes(range(256)) * 40
    stream_id = ring.begin("one", MONO)
    writer = Running(lambda: (ring.write(stream_id, data), ring.end(stream_id)))
    heard = b""
    while not isinstance(thing := ring.read(20, BOUND), UtteranceEnd):
        if isinstance(thing, bytes):
            heard += thing
            assert ring.unread_bytes <= 64
    assert heard == data
    assert writer.result()[0] is True


def test_a_clear_wakes_the_writer_and_the_reader() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    assert isinstance(ring.read(4, 0), UtteranceStart)
    reader = Running(lambda: ring.read(4, BOUND))
    assert ring.clear("button") == [Dropped("one", 0, MONO, was_reading=True)]
    assert reader.result() == UtteranceEnd("one", drop_reason="button")

    stream_id = ring.begin("two", MONO)
    ring.read(4, 0)
    writer = Running(lambda: ring.write(stream_id, bytes(1000)))
    assert ring.wait_readable(64, BOUND)
    assert ring.clear("button") == [Dropped("two", 64, MONO, was_reading=True)]
    assert writer.result() is False
    assert ring.unread_bytes == 0


def test_a_cleared_ticket_is_refused_at_once_and_never_again_let_in() -> None:
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


def test_an_utterance_cut_while_it_is_read_is_finished_before_anything_new() -> None:
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


def test_two_clears_in_a_row_finish_the_utterance_once_and_name_the_first() -> None:
    ring = RingBuffer(64)
    ring.begin("old", MONO)
    ring.read(2, 0)
    ring.clear("button")
    assert ring.begin("unheard", MONO) and ring.clear("voice") == [Dropped("unheard", 0, MONO)]
    assert drain(ring) == [UtteranceEnd("old", drop_reason="button")]


def test_utterances_that_were_not_begun_by_the_reader_are_named_by_the_clear_alone() -> None:
    ring = RingBuffer(64)
    for name in ("one", "two"):
        stream_id = ring.begin(name, MONO)
        ring.write(stream_id, b"abcd")
        ring.end(stream_id)
    ring.read(2, 0)
    assert ring.clear("button") == [Dropped("one", 4, MONO, was_reading=True), Dropped("two", 4, MONO)]
    assert drain(ring) == [UtteranceEnd("one", drop_reason="button", dropped_bytes=4)]


def test_a_sample_that_came_in_two_halves_is_read_whole() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", STEREO)
    ring.read(4, 0)
    ring.write(stream_id, b"LLRRL")
    assert ring.read(100, 0) == b"LLRR"
    assert ring.read(100, 0) is None
    ring.write(stream_id, b"LRR")
    assert ring.read(3, 0) == b"LLRR"  # never less than one sample of every channel


def test_no_read_ends_in_the_middle_of_a_sample_whatever_size_is_asked_for() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", STEREO)
    ring.read(4, 0)
    ring.write(stream_id, bytes(range(12)))
    assert ring.read(7, 0) == bytes(range(4))
    ring.end(stream_id)
    assert ring.read(7, 0) == bytes(range(4, 8))


def test_a_fragment_at_the_end_of_an_utterance_is_not_lost() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", STEREO)
    ring.write(stream_id, b"LLRRL")
    ring.end(stream_id)
    assert drain(ring) == [UtteranceStart("one", STEREO, stream_id), b"LLRRL", UtteranceEnd("one")]


def test_filled_means_the_bytes_are_there() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(4, 0)
    assert not ring.wait_readable(8, 0.01)
    waiting = Running(lambda: ring.wait_readable(8, BOUND))
    ring.write(stream_id, b"abcd")
    ring.write(stream_id, b"efgh")
    assert waiting.result() is True
    assert ring.buffered_bytes == 8


@pytest.mark.parametrize("what", ["end", "clear", "close", "full"])
def test_filled_also_means_that_no_more_will_come(what: str) -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(4, 0)
    waiting = Running(lambda: ring.wait_readable(1000, BOUND))
    {
        "end": lambda: ring.end(stream_id),
        "clear": lambda: ring.clear("button"),
        "close": ring.close,
        "full": lambda: ring.write(stream_id, bytes(64)),
    }[what]()
    assert waiting.result() is True


def test_complete_and_buffered_speak_of_the_utterance_being_read() -> None:
    ring = RingBuffer(64)
    assert (ring.buffered_bytes, ring.is_complete) == (0, False)
    one = ring.begin("one", MONO)
    ring.write(one, b"abcd")
    assert ring.buffered_bytes == 0  # its reader has not begun it
    ring.read(2, 0)
    assert (ring.buffered_bytes, ring.is_complete) == (4, False)
    ring.end(one)
    two = ring.begin("two", MONO)
    ring.write(two, b"ef")
    assert (ring.buffered_bytes, ring.is_complete) == (4, True)
    drain(ring)
    assert (ring.buffered_bytes, ring.is_complete) == (0, False)


def test_a_ticket_is_valid_until_its_utterance_is_finished_or_cut() -> None:
    ring = RingBuffer(64)
    one, two = ring.begin("one", MONO), ring.begin("two", MONO)
    ring.write(one, b"abcd")
    ring.end(one)
    for _ in range(2):
        ring.read(100, 0)
    assert ring.is_active(one)  # ended and wholly read, but its end is not
    assert ring.read(100, 0) == UtteranceEnd("one")
    assert (ring.is_active(one), ring.is_active(two), ring.is_active(99)) == (False, True, False)
    ring.clear("button")
    assert not ring.is_active(two)


def test_a_closed_ring_gives_what_is_left_and_then_its_end() -> None:
    ring = RingBuffer(64)
    one = ring.begin("one", MONO)
    ring.write(one, b"abcd")
    ring.close()
    ring.close()
    assert ring.write(one, b"ef") is False
    assert ring.write(ring.begin("late", MONO), b"ef") is False
    began, sound, finished, closed = drain(ring)
    assert (began, sound, closed) == (UtteranceStart("one", MONO, one), b"abcd", RingClosed())
    assert finished.error and not finished.drop_reason
    assert ring.read(4, None) == RingClosed()


def test_closing_wakes_the_writer_and_the_reader() -> None:
    ring = RingBuffer(64)
    reader = Running(lambda: ring.read(4, BOUND))
    ring.close()
    assert reader.result() == RingClosed()
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    writer = Running(lambda: ring.write(stream_id, bytes(1000)))
    ring.read(1, 0)
    assert ring.wait_readable(64, BOUND)
    ring.close()
    assert writer.result() is False


def test_a_ring_too_small_for_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        RingBuffer(3)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.integers(0, 2000), st.integers(2, 200))
@settings(max_examples=60, deadline=None)
def test_with_real_threads_no_byte_of_before_a_clear_is_read_after_it(
    sizes: list[int], cut_after: int, period: int
) -> None:
    """Each utterance's bytes are its own number; a third thread clears at a moment that the reader's progress sets."""
    ring = RingBuffer(128)
    reached, cleared = threading.Event(), threading.Event()

    def write(names: Any, amounts: list[int]) -> None:
        for name, size in zip(names, amounts, strict=True):
            stream_id = ring.begin(str(name), MONO)
            ring.write(stream_id, bytes([name]) * size * 2)
            ring.end(stream_id)

    def work() -> None:
        write(range(1, len(sizes) + 1), sizes)
        assert cleared.wait(BOUND)
        write([200], [300])
        ring.close()

    def clear() -> set[int]:
        assert reached.wait(BOUND)
        cuts = ring.clear("button")
        cleared.set()
        return {int(cut.utterance) for cut in cuts}

    writer, clearer = Running(work), Running(clear)
    before, after = b"", b""
    finished = 0
    while True:
        late = cleared.is_set()  # asked before the read: only then does the read surely begin after the clear
        thing = ring.read(period, BOUND)
        if isinstance(thing, RingClosed):
            break
        assert thing is not None
        if isinstance(thing, bytes):
            before, after = (before, after + thing) if late else (before + thing, after)
        finished += isinstance(thing, UtteranceEnd)
        if not reached.is_set() and (len(before) >= cut_after or finished == len(sizes)):
            reached.set()
    writer.result()

    assert not set(after) & clearer.result()
    assert (before + after).count(200) == 600
    assert ring.read_bytes == len(before) + len(after)
    assert ring.written_bytes == ring.read_bytes + ring.dropped_bytes


class AnyOrder(RuleBasedStateMachine):
    """Every interleaving of the ring's calls, against a plain list of what must still be heard."""

    @initialize(capacity=st.integers(64, 300))
    def make(self, capacity: int) -> None:
        self.ring = RingBuffer(capacity)
        self.capacity = capacity
        self.expected: list[Any] = []  # [name, ticket, bytearray, ended, error]
        self.current: list[Any] | None = None
        self.farewell: UtteranceEnd | None = None
        self.dead: list[int] = []
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
        data = data[: self.capacity - self.ring.unread_bytes]  # more would wait; that is tested with threads
        assert self.ring.write(self.expected[-1][1], data) is True
        self.expected[-1][2] += data

    @precondition(lambda self: self.dead)
    @rule(data=st.binary(min_size=1, max_size=20))
    def write_to_the_dead(self, data: bytes) -> None:
        assert self.ring.write(self.dead[-1], data) is False
        self.ring.end(self.dead[-1], "late")

    @precondition(lambda self: self.expected and not self.expected[-1][3])
    @rule(error=st.sampled_from([None, "broken"]))
    def end(self, error: str | None) -> None:
        self.ring.end(self.expected[-1][1], error)
        self.expected[-1][3:] = [True, error]

    @rule()
    def clear(self) -> None:
        cuts = self.ring.clear("button")
        assert cuts == [Dropped(name, len(left), MONO, name == self._name()) for name, _, left, _, _ in self.expected]
        if self.current:
            self.farewell = UtteranceEnd(self.current[0], drop_reason="button", dropped_bytes=len(self.current[2]))
        self.dead += [entry[1] for entry in self.expected]
        self.expected, self.current = [], None

    @rule(max_bytes=st.integers(1, 90))
    def read(self, max_bytes: int) -> None:
        thing = self.ring.read(max_bytes, 0)
        if self.farewell:
            assert thing == self.farewell
            self.farewell = None
        elif not self.expected:
            assert thing is None
        elif not self.current:
            self.current = self.expected[0]
            assert thing == UtteranceStart(self.current[0], MONO, self.current[1])
        elif isinstance(thing, bytes):
            assert 0 < len(thing) <= max(2, max_bytes)
            assert self.current[2].startswith(thing)
            del self.current[2][: len(thing)]
        elif isinstance(thing, UtteranceEnd):
            assert not self.current[2] and self.current[3]
            assert thing == UtteranceEnd(self.current[0], self.current[4])
            self.expected.pop(0)
            self.current = None
        else:
            assert len(self.current[2]) < 2 and not self.current[3]

    @invariant()
    def every_byte_is_somewhere(self) -> None:
        ring = self.ring
        assert ring.written_bytes == ring.read_bytes + ring.dropped_bytes + ring.unread_bytes
        assert ring.unread_bytes == sum(len(entry[2]) for entry in self.expected) <= self.capacity
        assert ring.buffered_bytes == (len(self.current[2]) if self.current else 0)

    def _name(self) -> str | None:
        return self.current[0] if self.current else None


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_the_reader_is_told_when_what_came() -> None:
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


def test_a_thousand_small_writes_do_not_leave_a_thousand_marks() -> None:
    ring = RingBuffer(1 << 20)
    stream_id = ring.begin("one", MONO)
    ring.read(1, 0)
    began = time.monotonic()
    for _ in range(1000):
        ring.write(stream_id, bytes(2))
    assert len(ring.arrivals()) <= 1 + (time.monotonic() - began) / 0.002


def test_who_waits_for_a_card_is_woken_by_a_cut() -> None:
    ring = RingBuffer(64)
    stream_id = ring.begin("one", MONO)
    ring.read(1, 0)
    ring.write(stream_id, bytes(10))
    assert not ring.wait_cleared(stream_id, 0.0)
    waiting = Running(lambda: ring.wait_cleared(stream_id, BOUND))
    ring.clear("somebody")
    assert waiting.result()


def test_an_utterance_that_was_read_to_its_end_is_whole_until_that_is_read_too() -> None:
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

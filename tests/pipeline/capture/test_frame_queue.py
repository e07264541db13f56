"""The frame queue: the microphone never blocks, and dropped frames are counted."""

import select
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.format import SPEECH
from agent.pipeline.capture.frame_queue import FrameQueue

BOUND = 30.0
FRAME = SPEECH.bytes_of(0.1)


def frame(number: int, size: int = FRAME) -> bytes:
    return number.to_bytes(2, "little") * (size // 2)


def numbers(frames: list[bytes]) -> list[int]:
    return [int.from_bytes(one[:2], "little") for one in frames]


def readable(queue: FrameQueue) -> bool:
    return bool(select.select([queue], [], [], 0)[0])


def test_frames_are_taken_in_order() -> None:
    queue = FrameQueue(1.0)
    for number in range(5):
        queue.put(frame(number))
    assert numbers(queue.take(3)) == [0, 1, 2]
    assert queue.get(0) == frame(3)
    assert numbers(queue.take(100)) == [4]
    assert queue.take(100) == []


def test_full_queue_drops_and_counts_its_oldest_frame() -> None:
    queue = FrameQueue(0.5)
    for number in range(8):
        queue.put(frame(number))
    assert (queue.dropped_frames, queue.frame_count) == (3, 5)
    assert numbers(queue.take(100)) == [3, 4, 5, 6, 7]


def test_take_gap_returns_position_and_length_once() -> None:
    queue = FrameQueue(0.5)
    for number in range(2):
        queue.put(frame(number))
    assert queue.take_gap() is None
    assert numbers(queue.take(1)) == [0]
    for number in range(2, 8):
        queue.put(frame(number))
    assert queue.take_gap() == (pytest.approx(0.1), pytest.approx(0.2))
    assert queue.take_gap() is None
    queue.put(frame(8))
    assert queue.take_gap() == (pytest.approx(0.3), pytest.approx(0.1))


def test_frame_longer_than_the_queue_is_kept_alone() -> None:
    queue = FrameQueue(0.1)
    queue.put(frame(1))
    queue.put(frame(2, 5 * FRAME))
    assert (queue.frame_count, queue.dropped_frames) == (1, 1)
    assert queue.take(9) == [frame(2, 5 * FRAME)]


def test_get_is_woken_by_a_frame() -> None:
    queue = FrameQueue(1.0)
    got: list[bytes | None] = []
    listener = threading.Thread(target=lambda: got.append(queue.get(BOUND)))
    listener.start()
    queue.put(frame(7))
    listener.join(BOUND)
    assert got == [frame(7)]


def test_get_returns_none_after_the_timeout() -> None:
    assert FrameQueue(1.0).get(0.01) is None


def test_iteration_ends_after_the_last_frame_of_a_closed_queue() -> None:
    queue = FrameQueue(5.0)
    heard: list[int] = []
    listener = threading.Thread(target=lambda: heard.extend(numbers(list(queue))))
    listener.start()
    for number in range(20):
        queue.put(frame(number))
    queue.close()
    queue.close()
    queue.put(frame(99))
    listener.join(BOUND)
    assert not listener.is_alive()
    assert heard == list(range(20))
    assert queue.is_closed and queue.get(BOUND) is None


def test_descriptor_is_readable_exactly_while_frames_are_queued() -> None:
    queue = FrameQueue(1.0)
    queue.put(frame(0))
    assert readable(queue)  # also when it is asked for after the frame came
    queue.put(frame(1))
    queue.take(1)
    assert readable(queue)
    queue.take(1)
    assert not readable(queue)
    queue.put(frame(2))
    assert readable(queue)
    queue.clear()
    assert not readable(queue)
    queue.release()


def test_closed_queue_stays_readable() -> None:
    queue = FrameQueue(1.0)
    assert not readable(queue)
    queue.put(frame(1))
    queue.close()
    queue.take(10)
    assert readable(queue) and queue.is_closed
    late = FrameQueue(1.0)
    late.close()
    assert readable(late)
    queue.release(), late.release()


def test_select_is_woken_by_a_frame_and_by_close() -> None:
    queue = FrameQueue(1.0)
    queue.fileno()
    for wake in (lambda: queue.put(frame(1)), queue.close):
        waker = threading.Thread(target=wake)
        waker.start()
        assert select.select([queue], [], [], BOUND)[0]
        waker.join(BOUND)
        queue.take(10)
    queue.release()


def test_release_closes_the_descriptor() -> None:
    queue = FrameQueue(1.0)
    assert queue.fileno() >= 0
    queue.release()
    queue.release()
    queue.put(frame(1))
    assert queue.fileno() == -1 and queue.is_closed and queue.take(1) == []


def test_clear_discards_all_frames_and_returns_their_number() -> None:
    queue = FrameQueue(1.0)
    queue.put(frame(1))
    queue.put(frame(2))
    assert queue.clear() == 2
    assert (queue.frame_count, queue.dropped_frames, queue.take(9)) == (0, 0, [])


def test_empty_frame_is_ignored() -> None:
    queue = FrameQueue(1.0)
    queue.put(b"")
    assert queue.frame_count == 0 and not readable(queue)


PUTS = st.integers(1, 3 * FRAME // 2).map(lambda samples: 2 * samples)
TAKES = st.tuples(st.integers(0, 4))
STEPS = st.sampled_from(["put", "put", "put", "take", "clear"])


@given(st.floats(0.05, 1.0), st.lists(st.one_of(PUTS, TAKES), max_size=60))
@settings(max_examples=150, deadline=None)
def test_every_frame_is_taken_or_dropped_or_queued(capacity: float, steps: list[int | tuple[int]]) -> None:
    queue = FrameQueue(capacity)
    put = taken = put_bytes = taken_bytes = 0
    last = -1
    for step in steps:
        if isinstance(step, tuple):
            frames = queue.take(step[0])
            for number in numbers(frames):
                assert number > last
                last = number
            taken += len(frames)
            taken_bytes += sum(map(len, frames))
        else:
            queue.put(frame(put, step))
            put, put_bytes = put + 1, put_bytes + step
        assert put == taken + queue.dropped_frames + queue.frame_count
    left = queue.take(1000)
    _, lost_seconds = queue.take_gap() or (0.0, 0.0)
    frame_count = put_bytes - taken_bytes - round(lost_seconds * SPEECH.rate) * 2
    assert frame_count == sum(map(len, left))
    assert frame_count <= max(SPEECH.bytes_of(capacity), max(map(len, left), default=0))


@given(st.lists(STEPS, max_size=80))
@settings(max_examples=150, deadline=None)
def test_take_and_clear_keep_order_and_readability(steps: list[str]) -> None:
    queue = FrameQueue(1000.0)
    waiting: list[int] = []
    count = 0
    for step in steps:
        if step == "put":
            queue.put(frame(count))
            waiting.append(count)
            count += 1
        elif step == "take":
            assert numbers(queue.take(2)) == waiting[:2]
            waiting = waiting[2:]
        else:
            assert queue.clear() == len(waiting)
            waiting = []
        assert readable(queue) == bool(waiting)
    assert numbers(queue.take(1000)) == waiting
    assert queue.dropped_frames == 0
    queue.release()


def test_two_threads_lose_only_counted_frames() -> None:
    queue = FrameQueue(0.3)
    got: list[int] = []
    listener = threading.Thread(target=lambda: got.extend(numbers(list(queue))))
    listener.start()
    for number in range(5000):
        queue.put(frame(number, 320))
    queue.close()
    listener.join(BOUND)
    assert got == sorted(set(got))
    assert len(got) + queue.dropped_frames == 5000

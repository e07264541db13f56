"""The frame queue: nothing blocks the microphone, and what is lost is counted."""

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


def test_frames_come_out_in_the_order_in_which_they_were_heard() -> None:
    queue = FrameQueue(1.0)
    for number in range(5):
        queue.put(frame(number))
    assert numbers(queue.take(3)) == [0, 1, 2]
    assert queue.get(0) == frame(3)
    assert numbers(queue.take(100)) == [4]
    assert queue.take(100) == []


def test_a_full_queue_forgets_its_oldest_frame_and_counts_it() -> None:
    queue = FrameQueue(0.5)
    for number in range(8):
        queue.put(frame(number))
    assert (queue.dropped_frames, queue.frame_count) == (3, 5)
    assert numbers(queue.take(100)) == [3, 4, 5, 6, 7]


def test_what_was_forgotten_is_told_once_with_its_place_and_length() -> None:
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


def test_a_frame_longer_than_the_queue_is_held_alone() -> None:
    queue = FrameQueue(0.1)
    queue.put(frame(1))
    queue.put(frame(2, 5 * FRAME))
    assert (queue.frame_count, queue.dropped_frames) == (1, 1)
    assert queue.take(9) == [frame(2, 5 * FRAME)]


def test_a_waiting_listener_is_woken_by_a_frame() -> None:
    queue = FrameQueue(1.0)
    got: list[bytes | None] = []
    listener = threading.Thread(target=lambda: got.append(queue.get(BOUND)))
    listener.start()
    queue.put(frame(7))
    listener.join(BOUND)
    assert got == [frame(7)]


def test_no_frame_in_time_is_none() -> None:
    assert FrameQueue(1.0).get(0.01) is None


def test_iteration_ends_after_what_is_left_when_the_queue_is_closed() -> None:
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


def test_the_descriptor_is_readable_exactly_while_frames_wait() -> None:
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


def test_a_closed_queue_stays_readable_so_that_its_end_is_seen() -> None:
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


def test_a_select_is_woken_by_a_frame_and_by_the_end() -> None:
    queue = FrameQueue(1.0)
    queue.fileno()
    for wake in (lambda: queue.put(frame(1)), queue.close):
        waker = threading.Thread(target=wake)
        waker.start()
        assert select.select([queue], [], [], BOUND)[0]
        waker.join(BOUND)
        queue.take(10)
    queue.release()


def test_a_released_queue_has_given_its_descriptor_back() -> None:
    queue = FrameQueue(1.0)
    assert queue.fileno() >= 0
    queue.release()
    queue.release()
    queue.put(frame(1))
    assert queue.fileno() == -1 and queue.is_closed and queue.take(1) == []


def test_clear_drops_everything_on_purpose_and_says_how_many() -> None:
    queue = FrameQueue(1.0)
    queue.put(frame(1))
    queue.put(frame(2))
    assert queue.clear() == 2
    assert (queue.frame_count, queue.dropped_frames, queue.take(9)) == (0, 0, [])


def test_an_empty_frame_is_none() -> None:
    queue = FrameQueue(1.0)
    queue.put(b"")
    assert queue.frame_count == 0 and not readable(queue)


PUTS = st.integers(1, 3 * FRAME // 2).map(lambda samples: 2 * samples)
TAKES = st.tuples(st.integers(0, 4))
STEPS = st.sampled_from(["put", "put", "put", "take", "clear"])


@given(st.floats(0.05, 1.0), st.lists(st.one_of(PUTS, TAKES), max_size=60))
@settings(max_examples=150, deadline=None)
def test_every_frame_was_taken_or_forgotten_or_is_held(capacity: float, steps: list[int | tuple[int]]) -> None:
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
def test_taking_and_clearing_keep_the_order_and_it_is_readable_while_a_frame_waits(steps: list[str]) -> None:
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


def test_two_threads_lose_nothing_that_is_not_counted() -> None:
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

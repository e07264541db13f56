"""A microphone that is lost is looked for until it is back, and what was not heard meanwhile is told exactly."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from agent.audio.devices.device import WaitPolicy, fail_fast, wait_for_device
from agent.audio.devices.portaudio import STALL_SECONDS
from agent.audio.format import SPEECH
from agent.daemon.builder import make_microphone
from agent.errors import DeviceError
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Event, Gap, WorkerCrashed
from agent.settings.model import Config
from agent.system.threads import Deadline

FRAME_SECONDS = 0.01
TIMEOUT_SECONDS = 30.0


class Scripted:
    """A source that gives ``frames`` frames in real time and is lost then."""

    def __init__(self, frames: int, overflow: int = 0) -> None:
        self.frames, self.overflow = frames, overflow
        self.lost_frames = 0
        self.closed = False
        self.first_from = self.last_until = self.lost_at = 0.0  # when the first read began, the last ended, it was lost

    def read(self) -> bytes:
        self.first_from = self.first_from or time.monotonic()
        if not self.frames:
            self.lost_at = time.monotonic()
            raise DeviceError("pulled out", lost=True)
        threading.Event().wait(FRAME_SECONDS)
        self.frames -= 1
        self.lost_frames += self.overflow
        self.overflow = 0
        self.last_until = time.monotonic()
        return bytes(SPEECH.bytes_of(FRAME_SECONDS))

    def close(self) -> None:
        self.closed = True


class Desk:
    """Sources one after the other; ``None``: it cannot be opened."""

    def __init__(self, *sources: Scripted | None, lost: bool = True) -> None:
        self.sources, self.lost = list(sources), lost
        self.tried_at: list[float] = []
        self.events: list[Event] = []
        self.moments: list[float] = []  # when each was reported
        self.changed = threading.Condition()

    def open(self) -> Scripted:
        self.tried_at.append(time.monotonic())
        source = self.sources.pop(0) if len(self.sources) > 1 else self.sources[0]
        if source is None:
            raise DeviceError("not there", lost=self.lost)
        return source

    def report(self, event: Event) -> None:
        with self.changed:
            self.events.append(event)
            self.moments.append(time.monotonic())
            self.changed.notify_all()

    def wait(self, kind: type[Event]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: any(isinstance(e, kind) for e in self.events), TIMEOUT_SECONDS)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def started(desk: Desk, wait_policy: WaitPolicy = wait_for_device) -> tuple[Microphone, FrameQueue]:
    frames = FrameQueue(60.0)
    microphone = Microphone(frames, desk.open, desk.report, wait_policy=wait_policy)
    microphone.start()
    return microphone, frames


def ended(microphone: Microphone) -> None:
    microphone.stop()
    assert microphone.join(Deadline(TIMEOUT_SECONDS))


def test_the_gap_of_a_loss_goes_from_the_last_frame_to_the_first() -> None:
    before, after = Scripted(20), Scripted(10_000)
    desk = Desk(before, None, None, after)
    microphone, frames = started(desk)
    desk.wait(Gap)
    ended(microphone)
    assert [type(event) for event in desk.events] == [DeviceLost, DeviceBack, Gap]
    (gap,) = desk.of(Gap)
    assert isinstance(gap, Gap)
    assert 20 * FRAME_SECONDS <= gap.start_seconds <= before.lost_at - before.first_from
    # The first try comes after 0.1 s, the next a second later each.
    assert gap.seconds > 2.0
    assert after.first_from - before.lost_at <= gap.seconds <= desk.moments[-1] - before.last_until
    assert frames.is_closed


def test_a_lost_microphone_is_tried_for_once_a_second_at_most() -> None:
    desk = Desk(Scripted(5), None, None, None, Scripted(10_000))
    microphone, _ = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    waits = [b - a for a, b in zip(desk.tried_at, desk.tried_at[1:], strict=False)]
    assert all(wait >= 1.0 for wait in waits[1:])


def test_a_microphone_that_fails_at_every_first_read_is_not_opened_in_a_storm() -> None:
    desk = Desk(Scripted(5), Scripted(0), Scripted(0), Scripted(10_000))
    microphone, _ = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    waits = [b - a for a, b in zip(desk.tried_at, desk.tried_at[1:], strict=False)]
    assert all(wait >= 1.0 for wait in waits[1:])
    assert len(desk.of(DeviceLost)) == 1


def test_a_microphone_that_is_late_at_the_start_has_lost_nothing() -> None:
    desk = Desk(None, Scripted(10_000))
    microphone, frames = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    assert [type(event) for event in desk.events] == [DeviceLost, DeviceBack]
    assert not desk.of(Gap)


def test_what_overflowed_is_a_gap_of_that_length() -> None:
    desk = Desk(Scripted(10_000, overflow=8000))
    microphone, _ = started(desk)
    desk.wait(Gap)
    ended(microphone)
    (gap,) = desk.of(Gap)
    assert isinstance(gap, Gap)
    assert gap.seconds == 0.5 and gap.reason == "the microphone overflowed"


@pytest.mark.parametrize(("wait_policy", "lost"), [(fail_fast, True), (wait_for_device, False)])
def test_a_microphone_that_is_not_worth_waiting_for_ends_the_thread_with_its_error(
    wait_policy: WaitPolicy, lost: bool
) -> None:
    desk = Desk(None, lost=lost)
    microphone, frames = started(desk, wait_policy)
    desk.wait(WorkerCrashed)
    assert microphone.join(Deadline(TIMEOUT_SECONDS))
    (died,) = desk.of(WorkerCrashed)
    assert isinstance(died, WorkerCrashed) and isinstance(died.error, DeviceError)
    assert frames.is_closed


def test_a_microphone_that_was_opened_and_is_slow_to_begin_is_opened_anew_also_for_who_has_no_patience() -> None:
    """One that wakes up only when it is opened was given up by ``transcribe``, now that a card that stands still is
    lost sooner."""
    desk = Desk(Scripted(0), Scripted(10_000))
    microphone, frames = started(desk, fail_fast)
    assert frames.get(TIMEOUT_SECONDS) is not None
    ended(microphone)
    assert [type(event) for event in desk.events] == [DeviceLost, DeviceBack]


def test_every_source_is_closed() -> None:
    first, second = Scripted(3), Scripted(10_000)
    desk = Desk(first, second)
    microphone, _ = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    assert first.closed and second.closed


def test_a_stuck_read_is_seen_within_three_seconds_and_opening_may_take_longer() -> None:
    desk = Desk(Scripted(10_000))
    seen: list[float] = []
    opening = threading.Event()

    def slow() -> Scripted:
        seen.append(microphone.stall_timeout)
        opening.set()
        return desk.open()

    microphone = Microphone(FrameQueue(60.0), slow, desk.report)
    assert microphone.stall_timeout <= 3.0
    microphone.start()
    assert opening.wait(TIMEOUT_SECONDS)
    ended(microphone)
    assert seen == [10.0]
    assert microphone.stall_timeout <= 3.0


@pytest.mark.parametrize("frame_seconds", [0.1, 1.0])
def test_a_card_may_stand_still_also_at_the_end_of_a_long_frame(frame_seconds: float) -> None:
    """It is given up after 1.2 s; but who had waited for most of a frame of a second by then was taken for stuck."""
    config = replace(Config(), microphone=replace(Config().microphone, device="none", frame_seconds=frame_seconds))
    frames = FrameQueue(60.0)
    microphone = make_microphone(config, frames, lambda event: None)
    microphone.start()
    assert frames.get(TIMEOUT_SECONDS) is not None
    while_reading = microphone.stall_timeout
    ended(microphone)
    assert while_reading >= frame_seconds - 0.1 + STALL_SECONDS + 0.5
    assert while_reading <= frame_seconds + 2.0


def test_the_frame_that_is_from_before_a_standstill_becomes_a_gap_and_the_next_is_heard() -> None:
    source = Held()
    desk = Desk(source)
    microphone, frames = started(desk)
    source.give.release()
    assert frames.get(TIMEOUT_SECONDS) is not None
    assert source.reading.acquire(timeout=TIMEOUT_SECONDS) and source.reading.acquire(timeout=TIMEOUT_SECONDS)
    microphone.reset_after_suspend("a standstill of 60 s")
    source.give.release(2)
    assert frames.get(TIMEOUT_SECONDS) is not None
    microphone.stop()
    source.give.release()  # for the read that may be under way
    ended(microphone)
    (gap,) = desk.of(Gap)
    assert isinstance(gap, Gap)
    assert gap.seconds == FRAME_SECONDS and gap.reason == "a standstill of 60 s"


class Held(Scripted):
    """A source that gives a frame only when it is let."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.give, self.reading = threading.Semaphore(0), threading.Semaphore(0)

    def read(self) -> bytes:
        self.reading.release()
        assert self.give.acquire(timeout=TIMEOUT_SECONDS)
        return bytes(SPEECH.bytes_of(FRAME_SECONDS))

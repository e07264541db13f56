"""A lost microphone is reopened, and the missing audio is reported exactly."""

from __future__ import annotations

import threading
import time

import pytest

from agent.audio.devices.device import WaitPolicy, fail_fast, wait_for_device
from agent.audio.devices.portaudio import STALL_SECONDS
from agent.audio.format import SPEECH
from agent.daemon.capture_builder import make_microphone
from agent.errors import DeviceError
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Event, Gap, WorkerCrashed
from agent.settings.model import Config
from agent.system.threads import Deadline

FRAME_SECONDS = 0.01
TIMEOUT_SECONDS = 30.0


class Scripted:
    """A source that delivers ``frames`` frames in real time and is then lost."""

    def __init__(self, frames: int, overflow: int = 0) -> None:
        self.frames, self.overflow = frames, overflow
        self.lost_samples = 0
        self.closed = False
        self.first_from = self.last_until = self.lost_at = 0.0  # when the first read began, the last ended, it was lost

    def read(self) -> bytes:
        self.first_from = self.first_from or time.monotonic()
        if not self.frames:
            self.lost_at = time.monotonic()
            raise DeviceError("pulled out", lost=True)
        threading.Event().wait(FRAME_SECONDS)
        self.frames -= 1
        self.lost_samples += self.overflow
        self.overflow = 0
        self.last_until = time.monotonic()
        return bytes(SPEECH.bytes_of(FRAME_SECONDS))

    def close(self) -> None:
        self.closed = True


class Desk:
    """Opens the given sources in order; ``None`` cannot be opened."""

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


def test_gap_of_a_loss_reaches_from_the_last_frame_to_the_first() -> None:
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


def test_lost_microphone_is_reopened_once_per_second_at_most() -> None:
    desk = Desk(Scripted(5), None, None, None, Scripted(10_000))
    microphone, _ = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    waits = [b - a for a, b in zip(desk.tried_at, desk.tried_at[1:], strict=False)]
    assert all(wait >= 1.0 for wait in waits[1:])


def test_microphone_that_fails_at_the_first_read_is_reopened_slowly() -> None:
    desk = Desk(Scripted(5), Scripted(0), Scripted(0), Scripted(10_000))
    microphone, _ = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    waits = [b - a for a, b in zip(desk.tried_at, desk.tried_at[1:], strict=False)]
    assert all(wait >= 1.0 for wait in waits[1:])
    assert len(desk.of(DeviceLost)) == 1


def test_missing_microphone_at_the_start_is_not_a_gap() -> None:
    desk = Desk(None, Scripted(10_000))
    microphone, frames = started(desk)
    desk.wait(DeviceBack)
    ended(microphone)
    assert [type(event) for event in desk.events] == [DeviceLost, DeviceBack]
    assert not desk.of(Gap)


def test_overflow_is_a_gap_of_its_length() -> None:
    desk = Desk(Scripted(10_000, overflow=8000))
    microphone, _ = started(desk)
    desk.wait(Gap)
    ended(microphone)
    (gap,) = desk.of(Gap)
    assert isinstance(gap, Gap)
    assert gap.seconds == 0.5 and gap.reason == "the microphone overflowed"


@pytest.mark.parametrize(("wait_policy", "lost"), [(fail_fast, True), (wait_for_device, False)])
def test_device_error_that_the_policy_rejects_ends_the_thread(wait_policy: WaitPolicy, lost: bool) -> None:
    desk = Desk(None, lost=lost)
    microphone, frames = started(desk, wait_policy)
    desk.wait(WorkerCrashed)
    assert microphone.join(Deadline(TIMEOUT_SECONDS))
    (died,) = desk.of(WorkerCrashed)
    assert isinstance(died, WorkerCrashed) and isinstance(died.error, DeviceError)
    assert frames.is_closed


def test_microphone_that_was_opened_is_reopened_even_with_fail_fast() -> None:
    """Some devices deliver their first frame only after they were opened twice."""
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


def test_stall_timeout_is_short_for_reads_and_long_for_opening() -> None:
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
def test_stall_timeout_grows_with_the_frame_length(frame_seconds: float) -> None:
    config = Config()._replace(microphone=Config().microphone._replace(device="none", frame_seconds=frame_seconds))
    frames = FrameQueue(60.0)
    microphone = make_microphone(config, frames, lambda event: None)
    microphone.start()
    assert frames.get(TIMEOUT_SECONDS) is not None
    while_reading = microphone.stall_timeout
    ended(microphone)
    assert while_reading >= frame_seconds - 0.1 + STALL_SECONDS + 0.5
    assert while_reading <= frame_seconds + 2.0


def test_frame_from_before_a_suspend_is_a_gap() -> None:
    source = Held()
    desk = Desk(source)
    microphone, frames = started(desk)
    source.give.release()
    assert frames.get(TIMEOUT_SECONDS) is not None
    assert source.reading.acquire(timeout=TIMEOUT_SECONDS) and source.reading.acquire(timeout=TIMEOUT_SECONDS)
    microphone.reset_after_suspend("suspended for 60 s")
    source.give.release(2)
    assert frames.get(TIMEOUT_SECONDS) is not None
    microphone.stop()
    source.give.release()  # for the read that may be under way
    ended(microphone)
    (gap,) = desk.of(Gap)
    assert isinstance(gap, Gap)
    assert gap.seconds == FRAME_SECONDS and gap.reason == "suspended for 60 s"


class Held(Scripted):
    """A source that delivers a frame on request."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.give, self.reading = threading.Semaphore(0), threading.Semaphore(0)

    def read(self) -> bytes:
        self.reading.release()
        assert self.give.acquire(timeout=TIMEOUT_SECONDS)
        return bytes(SPEECH.bytes_of(FRAME_SECONDS))

"""A muted microphone is a closed one."""

from __future__ import annotations

import threading
import time

from support.gathered import Gathered

from agent.audio.devices.file import SilentSource
from agent.errors import DeviceError
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Gap
from agent.system.threads import Deadline


class Endpointer(SilentSource):
    """A source that hears a hum, and knows whether it is open."""

    opened = closed = 0

    def __init__(self) -> None:
        super().__init__(0.02)
        Endpointer.opened += 1

    def next_frame(self) -> bytes:
        return b"\x01" * self.frame_bytes

    def close(self) -> None:
        Endpointer.closed += 1
        super().close()


def frames_until(queue: FrameQueue, wanted: bytes) -> None:
    deadline = Deadline(20.0)
    while not deadline.is_expired:
        frame = queue.get(1.0)
        if frame is not None and frame[:1] == wanted:
            return
    raise AssertionError(f"no frame of {wanted!r} came")


def test_mute_closes_the_source_and_unmute_opens_it_again() -> None:
    Endpointer.opened = Endpointer.closed = 0
    events, queue = Gathered(), FrameQueue(5.0)
    microphone = Microphone(queue, Endpointer, events)
    microphone.mute()
    microphone.start()
    frames_until(queue, b"\0")
    assert Endpointer.opened == 0, "it was muted before it was started"
    microphone.unmute()
    microphone.unmute()
    frames_until(queue, b"\x01")
    microphone.mute()
    microphone.mute()
    frames_until(queue, b"\0")
    queue.clear()
    assert (Endpointer.opened, Endpointer.closed) == (1, 1)
    heard = [queue.get(20.0) for _ in range(4)]
    assert all(frame == bytes(len(frame)) for frame in heard if frame is not None), "not one sample of the room"
    assert None not in heard
    microphone.unmute()
    frames_until(queue, b"\x01")
    assert Endpointer.opened == 2 and events.of(Gap) == [], "what somebody muted is not missing"
    microphone.stop()
    assert microphone.join(Deadline(20.0))


def test_a_muted_microphone_ends_when_it_is_stopped() -> None:
    microphone = Microphone(FrameQueue(5.0), Endpointer, Gathered())
    microphone.mute()
    microphone.start()
    microphone.stop()
    assert microphone.join(Deadline(20.0))


class Leaving(Endpointer):
    """It is lost after a few frames, and back when ``there`` says so."""

    there = threading.Event()
    last_read = 0.0

    def __init__(self) -> None:
        if Leaving.last_read and not Leaving.there.is_set():
            raise DeviceError("it is not there", lost=True)
        super().__init__()

    def read(self) -> bytes:
        if self._frames == 3 and not Leaving.there.is_set():
            raise DeviceError("it was lost", lost=True)
        Leaving.last_read = time.monotonic()
        return super().read()


def test_a_microphone_that_was_lost_is_not_missing_for_as_long_as_it_was_muted() -> None:
    """One that was pulled out, muted, and back the next morning, was reported to be missing the whole night."""
    Leaving.there.clear()
    Leaving.last_read = 0.0
    events, queue = Gathered(), FrameQueue(60.0)
    microphone = Microphone(queue, Leaving, events)
    microphone.start()
    events.await_first(DeviceLost)
    gone_from = Leaving.last_read
    microphone.mute()
    frames_until(queue, b"\0")
    began = time.monotonic()
    for _ in range(10):
        frames_until(queue, b"\0")
    muted_seconds = time.monotonic() - began
    Leaving.there.set()
    microphone.unmute()
    events.await_first(DeviceBack)
    frames_until(queue, b"\x01")
    gone_seconds = time.monotonic() - gone_from
    microphone.stop()
    assert microphone.join(Deadline(20.0))
    gaps = events.of(Gap)
    assert gaps and sum(gap.seconds for gap in gaps) <= gone_seconds - muted_seconds
    assert all(gap.seconds > 0.005 for gap in gaps), "one that was back before the mute was over told of 0.00 s"


def test_a_standstill_while_it_is_muted_takes_nothing_of_what_is_heard_after() -> None:
    """The first frame after the mute, hours later, became a gap by a standstill in which nothing was recorded."""
    events, queue = Gathered(), FrameQueue(5.0)
    microphone = Microphone(queue, Endpointer, events)
    microphone.mute()
    microphone.start()
    frames_until(queue, b"\0")
    microphone.reset_after_suspend("a standstill of 60 s")
    microphone.unmute()
    frames_until(queue, b"\x01")
    microphone.stop()
    assert microphone.join(Deadline(20.0))
    assert events.of(Gap) == []

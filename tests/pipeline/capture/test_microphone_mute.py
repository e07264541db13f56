"""Muting closes the microphone."""

from __future__ import annotations

import threading
import time

from support.frame_detector import FrameDetector
from support.gathered import Gathered

from agent.audio.devices.file import SilentSource
from agent.audio.format import SPEECH
from agent.errors import DeviceError
from agent.pipeline.capture.endpointer import SpeechEnd, VadEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import MUTE_SILENCE_SECONDS, SILENT_FRAME_SECONDS, Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Gap
from agent.pipeline.settings import PauseSettings
from agent.system.threads import Deadline


class CountingSource(SilentSource):
    """A source with a constant signal that counts how often it is opened and closed."""

    opened = closed = 0

    def __init__(self) -> None:
        super().__init__(0.02)
        CountingSource.opened += 1

    def next_frame(self) -> bytes:
        return b"\x01" * self.read_bytes

    def close(self) -> None:
        CountingSource.closed += 1
        super().close()


def frames_until(queue: FrameQueue, wanted: bytes) -> None:
    deadline = Deadline(20.0)
    while not deadline.is_expired:
        frame = queue.get(1.0)
        if frame is not None and frame[:1] == wanted:
            return
    raise AssertionError(f"no frame of {wanted!r} came")


def test_mute_closes_the_source_and_unmute_opens_it_again() -> None:
    CountingSource.opened = CountingSource.closed = 0
    events, queue = Gathered(), FrameQueue(5.0)
    microphone = Microphone(queue, CountingSource, events)
    microphone.mute()
    microphone.start()
    frames_until(queue, b"\0")
    assert CountingSource.opened == 0, "it was muted before it was started"
    microphone.unmute()
    microphone.unmute()
    frames_until(queue, b"\x01")
    microphone.mute()
    microphone.mute()
    frames_until(queue, b"\0")
    queue.clear()
    assert (CountingSource.opened, CountingSource.closed) == (1, 1)
    heard = [queue.get(20.0) for _ in range(4)]
    assert all(frame == bytes(len(frame)) for frame in heard if frame is not None), "not one sample of the room"
    assert None not in heard
    microphone.unmute()
    frames_until(queue, b"\x01")
    assert CountingSource.opened == 2 and events.of(Gap) == [], "a mute is not a gap"
    microphone.stop()
    assert microphone.join(Deadline(20.0))


def test_silence_of_a_mute_ends_a_segment_after_the_longest_pause() -> None:
    longest = PauseSettings(unsure=5.0, incomplete=10.0)
    for seconds in (longest.incomplete_seconds, longest.unsure, PauseSettings(unsure=5.0).incomplete_seconds):
        detector = FrameDetector(lambda frame: frame[0] == 1, 0.1)
        endpointer = VadEndpointer(detector, silence_seconds=seconds, turn_seconds=600.0, pre_roll_seconds=0.0)
        frames = [b"\x01" * SPEECH.bytes_of(SILENT_FRAME_SECONDS)] * 5
        frames += [bytes(SPEECH.bytes_of(SILENT_FRAME_SECONDS))] * round(MUTE_SILENCE_SECONDS / SILENT_FRAME_SECONDS)
        events = [event for frame in frames for event in endpointer.process(frame)]
        assert any(isinstance(event, SpeechEnd) for event in events), seconds


def test_stop_ends_a_muted_microphone() -> None:
    microphone = Microphone(FrameQueue(5.0), CountingSource, Gathered())
    microphone.mute()
    microphone.start()
    microphone.stop()
    assert microphone.join(Deadline(20.0))


class LostSource(CountingSource):
    """A source that is lost after three frames and back when ``is_back`` is set."""

    is_back = threading.Event()
    last_read = 0.0

    def __init__(self) -> None:
        if LostSource.last_read and not LostSource.is_back.is_set():
            raise DeviceError("not connected", lost=True)
        super().__init__()

    def read(self) -> bytes:
        if self._frames == 3 and not LostSource.is_back.is_set():
            raise DeviceError("it was lost", lost=True)
        LostSource.last_read = time.monotonic()
        return super().read()


def test_gap_of_a_lost_microphone_excludes_the_mute() -> None:
    LostSource.is_back.clear()
    LostSource.last_read = 0.0
    events, queue = Gathered(), FrameQueue(60.0)
    microphone = Microphone(queue, LostSource, events)
    microphone.start()
    events.await_first(DeviceLost)
    gone_from = LostSource.last_read
    microphone.mute()
    frames_until(queue, b"\0")
    began = time.monotonic()
    for _ in range(10):
        frames_until(queue, b"\0")
    muted_seconds = time.monotonic() - began
    LostSource.is_back.set()
    microphone.unmute()
    events.await_first(DeviceBack)
    frames_until(queue, b"\x01")
    gone_seconds = time.monotonic() - gone_from
    microphone.stop()
    assert microphone.join(Deadline(20.0))
    gaps = events.of(Gap)
    assert gaps and sum(gap.seconds for gap in gaps) <= gone_seconds - muted_seconds
    assert all(gap.seconds > 0.005 for gap in gaps), "no gap of 0.00 s"


def test_suspend_during_a_mute_discards_no_later_frame() -> None:
    events, queue = Gathered(), FrameQueue(5.0)
    microphone = Microphone(queue, CountingSource, events)
    microphone.mute()
    microphone.start()
    frames_until(queue, b"\0")
    microphone.reset_after_suspend("suspended for 60 s")
    microphone.unmute()
    frames_until(queue, b"\x01")
    microphone.stop()
    assert microphone.join(Deadline(20.0))
    assert events.of(Gap) == []

"""A muted microphone is a closed one."""

from __future__ import annotations

from tools.gathered import Gathered

from agent.audio.file_device import SilentSource
from agent.audio.frames import FrameQueue
from agent.events import Gap
from agent.microphone import Microphone
from agent.threads import Deadline


class Ears(SilentSource):
    """A source that hears a hum, and knows whether it is open."""

    opened = closed = 0

    def __init__(self) -> None:
        super().__init__(0.02)
        Ears.opened += 1

    def _sound(self) -> bytes:
        return b"\x01" * self.frame_bytes

    def close(self) -> None:
        Ears.closed += 1
        super().close()


def frames_until(queue: FrameQueue, wanted: bytes) -> None:
    deadline = Deadline(20.0)
    while not deadline.over:
        frame = queue.get(1.0)
        if frame is not None and frame[:1] == wanted:
            return
    raise AssertionError(f"no frame of {wanted!r} came")


def test_mute_closes_the_source_and_unmute_opens_it_again() -> None:
    Ears.opened = Ears.closed = 0
    events, queue = Gathered(), FrameQueue(5.0)
    microphone = Microphone(queue, Ears, events)
    microphone.mute()
    microphone.start()
    frames_until(queue, b"\0")
    assert Ears.opened == 0, "it was muted before it was started"
    microphone.unmute()
    microphone.unmute()
    frames_until(queue, b"\x01")
    microphone.mute()
    microphone.mute()
    frames_until(queue, b"\0")
    queue.clear()
    assert (Ears.opened, Ears.closed) == (1, 1)
    heard = [queue.get(20.0) for _ in range(4)]
    assert all(frame == bytes(len(frame)) for frame in heard if frame is not None), "not one sample of the room"
    assert None not in heard
    microphone.unmute()
    frames_until(queue, b"\x01")
    assert Ears.opened == 2 and events.of(Gap) == [], "what somebody muted is not missing"
    microphone.stop()
    assert microphone.join(Deadline(20.0))


def test_a_muted_microphone_ends_when_it_is_stopped() -> None:
    microphone = Microphone(FrameQueue(5.0), Ears, Gathered())
    microphone.mute()
    microphone.start()
    microphone.stop()
    assert microphone.join(Deadline(20.0))


def test_a_standstill_while_it_is_muted_takes_nothing_of_what_is_heard_after() -> None:
    """The first frame after the mute, hours later, became a gap by a standstill in which nothing was recorded."""
    events, queue = Gathered(), FrameQueue(5.0)
    microphone = Microphone(queue, Ears, events)
    microphone.mute()
    microphone.start()
    frames_until(queue, b"\0")
    microphone.begin_anew("a standstill of 60 s")
    microphone.unmute()
    frames_until(queue, b"\x01")
    microphone.stop()
    assert microphone.join(Deadline(20.0))
    assert events.of(Gap) == []

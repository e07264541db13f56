"""A card that is lost is opened anew, and the sound goes on at the first sample that it did not take."""

from __future__ import annotations

import threading

import pytest

from agent.audio.devices.device import WaitPolicy, fail_fast, wait_for_device
from agent.audio.format import Format
from agent.errors import DeviceError
from agent.pipeline.events import DeviceBack, DeviceLost, Event
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink

FORMAT = Format(16000)


class Box:
    """A card made by hand: takes ``room`` frames, then it is lost."""

    underruns = 1

    def __init__(self, format: Format, heard: bytearray, room: int) -> None:
        self.format, self.heard, self.room = format, heard, room
        self.accepted_frames = 0
        self.closed = False

    def write(self, pcm: bytes) -> None:
        frames = len(pcm) // self.format.frame_bytes
        taken = min(frames, self.room - self.accepted_frames)
        self.heard += pcm[: taken * self.format.frame_bytes]
        self.accepted_frames += taken
        if taken < frames:
            raise DeviceError("pulled out", lost=True)

    def drain(self) -> None:
        self.drop()

    def drop(self) -> None:
        self.room -= self.accepted_frames
        self.accepted_frames = 0

    def change_format(self, format: Format) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class Shelf:
    """Boxes one after the other; ``None`` stands for a try that fails."""

    def __init__(self, *rooms: int | None, lost: bool = True) -> None:
        self.rooms, self.lost = list(rooms), lost
        self.heard = bytearray()
        self.boxes: list[Box] = []
        self.events: list[Event] = []

    def open(self, format: Format) -> Box:
        room = self.rooms.pop(0)
        if room is None:
            raise DeviceError("not there", lost=self.lost)
        self.boxes.append(Box(format, self.heard, room))
        return self.boxes[-1]


def sound(frames: int, start: int = 0) -> bytes:
    return b"".join(number.to_bytes(2, "little") for number in range(start + 1, start + frames + 1))


def lasting(shelf: Shelf, patience: WaitPolicy = wait_for_device) -> ReconnectingSink:
    return ReconnectingSink(shelf.open, shelf.events.append, threading.Event(), patience=patience)


def always() -> bool:
    return True


def test_what_was_half_taken_goes_on_at_the_exact_sample() -> None:
    for room in range(1, 20):
        shelf = Shelf(room, 1000)
        sink = lasting(shelf)
        assert sink.write(sound(10), FORMAT, always) and sink.write(sound(10, 10), FORMAT, always)
        sink.drain()
        assert bytes(shelf.heard) == sound(20)
        assert [type(event) for event in shelf.events] == [DeviceLost, DeviceBack]
        assert all(box.closed for box in shelf.boxes[:-1])


def test_a_new_utterance_has_nothing_of_the_old() -> None:
    shelf = Shelf(15, 1000)
    sink = lasting(shelf)
    assert sink.write(sound(10), FORMAT, always)
    assert not sink.write(sound(10, 10), FORMAT, iter([True, False]).__next__)
    sink.drop()
    assert sink.write(sound(5, 100), FORMAT, always)
    assert bytes(shelf.heard) == sound(15) + sound(5, 100)


def test_what_is_no_longer_wanted_is_not_waited_for() -> None:
    shelf = Shelf(None, None)
    sink = lasting(shelf)
    assert not sink.write(sound(10), FORMAT, iter([True, False]).__next__)
    assert len(shelf.events) == 1


def test_a_device_that_is_not_there_yet_is_waited_for() -> None:
    shelf = Shelf(None, 1000)
    assert lasting(shelf).write(sound(10), FORMAT, always)
    assert bytes(shelf.heard) == sound(10)


@pytest.mark.parametrize(("patience", "lost"), [(fail_fast, True), (wait_for_device, False)])
def test_a_first_failure_is_raised_to_whoever_does_not_wait_for_it(patience: WaitPolicy, lost: bool) -> None:
    with pytest.raises(DeviceError, match="not there"):
        lasting(Shelf(None, lost=lost), patience).write(sound(10), FORMAT, always)


def test_who_waits_for_which_device_at_the_start() -> None:
    away, unheard_of, refusing = DeviceError("", lost=True), DeviceError("", unknown=True), DeviceError("")
    judged = [[patience(error) for error in (away, unheard_of, refusing)] for patience in (fail_fast, wait_for_device)]
    assert judged == [[False, False, False], [True, True, False]]


def test_once_it_has_played_every_failure_may_pass() -> None:
    shelf = Shelf(15, None, 1000, lost=False)
    sink = lasting(shelf, fail_fast)
    assert sink.write(sound(20), FORMAT, always)
    assert bytes(shelf.heard) == sound(20)
    assert sink.underruns == 2


def test_a_card_is_looked_for_before_there_is_anything_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that was missing used to be noticed by the first reply that nobody heard."""
    now = [100.0]
    monkeypatch.setattr("agent.pipeline.playback.reconnecting_sink.time.monotonic", lambda: now[0])
    shelf = Shelf(None, None, 1000, 1000)
    sink = ReconnectingSink(
        shelf.open, shelf.events.append, threading.Event(), probe=lambda: shelf.open(FORMAT).close()
    )
    for _ in range(3):
        sink.look()  # a second has not gone by
    assert [type(event) for event in shelf.events] == [DeviceLost]
    assert len(shelf.rooms) == 3
    for _ in range(4):
        now[0] += 1.1
        sink.look()
    assert [type(event) for event in shelf.events] == [DeviceLost, DeviceBack]
    assert len(shelf.rooms) == 1, "once it is back it is left alone"


def test_a_look_for_a_card_that_nobody_waits_for_is_an_error() -> None:
    missing = Shelf(None)
    sink = ReconnectingSink(
        missing.open, print, threading.Event(), patience=fail_fast, probe=lambda: missing.open(FORMAT).close()
    )
    with pytest.raises(DeviceError, match="not there"):
        sink.look()


def test_a_card_that_ran_dry_is_told_once_an_utterance(caplog: pytest.LogCaptureFixture) -> None:
    sink = lasting(Shelf(1000))
    for _ in range(2):
        assert sink.write(sound(10), FORMAT, always)
        sink.drain()
    assert caplog.messages == ["the card ran dry 1 times: the machine is busy, or speaker.buffer_seconds is too short"]


def test_giving_up_ends_the_waiting_at_once() -> None:
    shelf = Shelf(*[None] * 5)
    cancelled = threading.Event()
    sink = ReconnectingSink(shelf.open, lambda event: cancelled.set(), cancelled)
    assert not sink.write(sound(10), FORMAT, always)
    assert len(shelf.rooms) == 4

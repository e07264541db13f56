"""Reconnecting sink: reopens a lost card and continues at the first frame that it did not accept."""

from __future__ import annotations

import threading

import pytest

from agent.audio.devices.device import WaitPolicy, fail_fast, wait_for_device
from agent.audio.devices.reconnector import ReconnectTiming
from agent.audio.format import Format
from agent.errors import DeviceError
from agent.pipeline.events import DeviceBack, DeviceLost, Event
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink

FORMAT = Format(16000)
FAST = ReconnectTiming(first_retry_seconds=0.001, retry_seconds=0.001)


class LimitedSink:
    """A sink that accepts ``capacity`` frames and is lost then."""

    underruns = 1

    def __init__(self, format: Format, played: bytearray, capacity: int) -> None:
        self.format, self.played, self.capacity = format, played, capacity
        self.accepted_frames = 0
        self.closed = False

    def write(self, pcm: bytes) -> None:
        frames = len(pcm) // self.format.frame_bytes
        accepted = min(frames, self.capacity - self.accepted_frames)
        self.played += pcm[: accepted * self.format.frame_bytes]
        self.accepted_frames += accepted
        if accepted < frames:
            raise DeviceError("pulled out", lost=True)

    def drain(self) -> None:
        self.drop()

    def drop(self) -> None:
        self.capacity -= self.accepted_frames
        self.accepted_frames = 0

    def change_format(self, format: Format) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class SinkFactory:
    """Opens one ``LimitedSink`` after the other; ``None``: opening fails."""

    def __init__(self, *capacities: int | None, lost: bool = True) -> None:
        self.capacities, self.lost = list(capacities), lost
        self.played = bytearray()
        self.sinks: list[LimitedSink] = []
        self.events: list[Event] = []

    def open(self, format: Format) -> LimitedSink:
        capacity = self.capacities.pop(0)
        if capacity is None:
            raise DeviceError("not there", lost=self.lost)
        self.sinks.append(LimitedSink(format, self.played, capacity))
        return self.sinks[-1]


def sound(frames: int, start: int = 0) -> bytes:
    return b"".join(number.to_bytes(2, "little") for number in range(start + 1, start + frames + 1))


def reconnecting(factory: SinkFactory, wait_policy: WaitPolicy = wait_for_device) -> ReconnectingSink:
    return ReconnectingSink(
        factory.open, factory.events.append, threading.Event(), wait_policy=wait_policy, timing=FAST
    )


def is_wanted() -> bool:
    return True


def test_write_continues_at_the_exact_sample_after_a_loss() -> None:
    for capacity in range(1, 20):
        factory = SinkFactory(capacity, 1000)
        sink = reconnecting(factory)
        assert sink.write(sound(10), FORMAT, is_wanted) and sink.write(sound(10, 10), FORMAT, is_wanted)
        sink.drain()
        assert bytes(factory.played) == sound(20)
        assert [type(event) for event in factory.events] == [DeviceLost, DeviceBack]
        assert all(sink.closed for sink in factory.sinks[:-1])


def test_drop_discards_pending_audio() -> None:
    factory = SinkFactory(15, 1000)
    sink = reconnecting(factory)
    assert sink.write(sound(10), FORMAT, is_wanted)
    assert not sink.write(sound(10, 10), FORMAT, iter([True, False]).__next__)
    sink.drop()
    assert sink.write(sound(5, 100), FORMAT, is_wanted)
    assert bytes(factory.played) == sound(15) + sound(5, 100)


def test_write_returns_false_when_audio_is_no_longer_wanted() -> None:
    factory = SinkFactory(None, None)
    sink = reconnecting(factory)
    assert not sink.write(sound(10), FORMAT, iter([True, False]).__next__)
    assert len(factory.events) == 1


def test_write_waits_for_a_missing_device() -> None:
    factory = SinkFactory(None, 1000)
    assert reconnecting(factory).write(sound(10), FORMAT, is_wanted)
    assert bytes(factory.played) == sound(10)


@pytest.mark.parametrize(("wait_policy", "lost"), [(fail_fast, True), (wait_for_device, False)])
def test_first_failure_is_raised_if_the_policy_does_not_wait(wait_policy: WaitPolicy, lost: bool) -> None:
    with pytest.raises(DeviceError, match="not there"):
        reconnecting(SinkFactory(None, lost=lost), wait_policy).write(sound(10), FORMAT, is_wanted)


def test_daemon_waits_for_a_missing_card_and_a_command_does_not() -> None:
    away, unknown, refused = DeviceError("", lost=True), DeviceError("", unknown=True), DeviceError("")
    decisions = [
        [wait_policy(error) for error in (away, unknown, refused)] for wait_policy in (fail_fast, wait_for_device)
    ]
    assert decisions == [[False, False, False], [True, True, False]]


def test_any_failure_is_waited_out_after_the_first_open() -> None:
    factory = SinkFactory(15, None, 1000, lost=False)
    sink = reconnecting(factory, fail_fast)
    assert sink.write(sound(20), FORMAT, is_wanted)
    assert bytes(factory.played) == sound(20)
    assert sink.underruns == 2


def test_look_reports_loss_and_return_while_idle() -> None:
    factory = SinkFactory(None, None, 1000, 1000)
    sink = probing(factory, retry_seconds=3600.0)
    for _ in range(3):
        sink.check_presence()
    assert [type(event) for event in factory.events] == [DeviceLost]
    assert len(factory.capacities) == 3, "the next probe is due after retry_seconds"

    factory = SinkFactory(None, None, 1000, 1000)
    sink = probing(factory, retry_seconds=0.0)
    for _ in range(5):
        sink.check_presence()
    assert [type(event) for event in factory.events] == [DeviceLost, DeviceBack]
    assert len(factory.capacities) == 1, "a present card is not probed"


def probing(factory: SinkFactory, retry_seconds: float) -> ReconnectingSink:
    return ReconnectingSink(
        factory.open,
        factory.events.append,
        threading.Event(),
        probe=lambda: factory.open(FORMAT).close(),
        timing=ReconnectTiming(retry_seconds=retry_seconds),
    )


def test_look_raises_if_the_policy_does_not_wait() -> None:
    missing = SinkFactory(None)
    sink = ReconnectingSink(
        missing.open, print, threading.Event(), wait_policy=fail_fast, probe=lambda: missing.open(FORMAT).close()
    )
    with pytest.raises(DeviceError, match="not there"):
        sink.check_presence()


def test_underruns_are_logged_once_per_utterance(caplog: pytest.LogCaptureFixture) -> None:
    sink = reconnecting(SinkFactory(1000))
    for _ in range(2):
        assert sink.write(sound(10), FORMAT, is_wanted)
        sink.drain()
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.name == "agent.pipeline.playback.reconnecting_sink"
    assert "underruns, count=1" in record.getMessage() and "speaker.buffer_seconds" in record.getMessage()


def test_cancelled_ends_the_wait() -> None:
    factory = SinkFactory(*[None] * 5)
    cancelled = threading.Event()
    sink = ReconnectingSink(factory.open, lambda event: cancelled.set(), cancelled)
    assert not sink.write(sound(10), FORMAT, is_wanted)
    assert len(factory.capacities) == 4

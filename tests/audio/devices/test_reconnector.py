"""Reconnector: policy, reports, delays and limits."""

from __future__ import annotations

import threading

import pytest

from agent.audio.devices.device import fail_fast
from agent.audio.devices.reconnector import DeviceReconnector, ReconnectTiming
from agent.errors import DeviceError

LOST = DeviceError("unplugged", lost=True)


class RecordingEvent(threading.Event):
    """Records the timeouts of its waits and never waits."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        return False


def make(reports: list[object], **options: object) -> DeviceReconnector:
    return DeviceReconnector(reports.append, reports.append, **options)  # type: ignore[arg-type]


def test_loss_and_return_are_reported_once() -> None:
    reports: list[object] = []
    device = make(reports)
    device.note_opened()
    assert device.is_present
    for _ in range(3):
        device.note_lost(LOST)
    assert device.is_lost and not device.is_present
    for _ in range(3):
        device.note_working()
    assert not device.is_lost and device.is_present
    reason, seconds = reports
    assert reason == "unplugged" and isinstance(seconds, float) and seconds >= 0


def test_policy_applies_until_the_device_was_opened() -> None:
    reports: list[object] = []
    device = make(reports, wait_policy=fail_fast)
    with pytest.raises(DeviceError, match="unplugged"):
        device.note_lost(LOST)
    assert not reports and not device.is_lost
    device.note_opened()
    device.note_lost(LOST)
    assert device.is_lost


def test_first_retry_is_early_until_the_device_works_again() -> None:
    device = make([], timing=ReconnectTiming(first_retry_seconds=0.25, retry_seconds=2.0))
    cancelled = RecordingEvent()
    for _ in range(3):
        device.note_opened()  # opening alone does not reset the delay
        device.note_lost(LOST)
        device.wait(cancelled)
    device.note_working()
    device.wait(cancelled)
    assert cancelled.timeouts == [0.25, 2.0, 2.0, 0.25]


def test_slow_call_raises_the_stall_timeout() -> None:
    device = make([], timing=ReconnectTiming(io_timeout_seconds=2.0, open_timeout_seconds=9.0))
    with pytest.raises(ValueError), device.slow_call():
        assert device.stall_timeout == 9.0
        raise ValueError
    assert device.stall_timeout == 2.0

"""Update interval of a moonshine stream, with a fake model and clock."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from agent.errors import AudioError
from agent.server.stt.moonshine import MoonshineStream
from agent.server.work_slots import WorkSlots

SECOND = bytes(32000)


class FakeModel:
    """A model and its only stream; the updates take the ``durations`` in seconds, further ones no time."""

    def __init__(self, *durations: float) -> None:
        self.durations, self.now, self.received_seconds = list(durations), 100.0, 0.0
        self.updated_at: list[float] = []
        self.flags: list[int] = []
        self.is_failing = False
        self.failing_calls: set[str] = set()
        self.open_streams = 0

    def clock(self) -> float:
        return self.now

    def create_stream(self, update_interval: float) -> FakeModel:
        self._fail("create_stream")
        self.open_streams += 1
        return self

    def start(self) -> None:
        self._fail("start")

    def stop(self) -> Any:
        self._fail("stop")
        return SimpleNamespace(lines=[])

    def close(self) -> None:
        self.open_streams -= 1

    def _fail(self, call: str) -> None:
        if call in self.failing_calls:
            raise OSError("no memory")

    def add_audio(self, sound: list[float], rate: int) -> None:
        self._fail("add_audio")
        self.received_seconds += len(sound) / rate

    def update_transcription(self, flags: int = 0) -> Any:
        self.updated_at.append(round(self.received_seconds, 1))
        self.flags.append(flags)
        self.now += self.durations.pop(0) if self.durations else 0.0
        if self.is_failing:
            raise OSError("no memory")
        return SimpleNamespace(lines=[])


def update_intervals(model: FakeModel, seconds: int) -> list[float]:
    """Return the seconds of audio between the updates."""
    stream = MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    for at in range(0, seconds * len(SECOND), 3200):
        stream.feed((SECOND * seconds)[at : at + 3200])
    return [later - earlier for earlier, later in pairwise(model.updated_at)]


def test_slow_updates_increase_the_interval() -> None:
    intervals = update_intervals(FakeModel(*[1.0] * 100), 14)
    assert len(intervals) >= 4 and intervals[1:] == pytest.approx([3.0] * len(intervals[1:]), abs=0.2)


def test_one_slow_update_keeps_the_interval() -> None:
    intervals = update_intervals(FakeModel(0.0, 2.0), 4)
    assert len(intervals) >= 5 and intervals == pytest.approx([0.5] * len(intervals), abs=0.2)


def test_early_final_forces_an_update() -> None:
    """Without the flag moonshine repeats the text of its last update, which lacks the last words."""
    model = FakeModel()
    stream = MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    stream.feed(SECOND)
    stream.early_final()
    assert model.flags == [0, 1]


@pytest.mark.parametrize(("rest", "updates"), [(bytes(6400), 2), (b"\x00\x10" * 3200, 4), (SECOND, 5)])
def test_silence_after_an_early_final_is_not_transcribed_again(rest: bytes, updates: int) -> None:
    model = FakeModel()
    stream = MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    stream.feed(SECOND)
    stream.early_final()
    stream.feed(rest)
    assert stream.finish() == [] and len(model.flags) == updates


def test_audio_of_a_failed_early_final_is_transcribed_at_the_end() -> None:
    model = FakeModel()
    stream = MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    stream.feed(SECOND)
    model.is_failing = True
    stream.early_final()
    model.is_failing = False
    assert stream.finish() == [] and model.flags == [0, 1, 0, 0]


@pytest.mark.parametrize("call", ["create_stream", "start"])
def test_stream_that_cannot_start_is_an_audio_error(call: str) -> None:
    model = FakeModel()
    model.failing_calls = {call}
    with pytest.raises(AudioError, match="no memory"):
        MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    assert model.open_streams == 0


def test_audio_that_the_stream_did_not_accept_is_added_again() -> None:
    model = FakeModel()
    stream = MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    model.failing_calls = {"add_audio"}
    stream.feed(SECOND)
    model.failing_calls = set()
    stream.feed(SECOND)
    assert model.received_seconds == 2.0


def test_failed_stop_releases_the_stream() -> None:
    model = FakeModel()
    stream = MoonshineStream(model, WorkSlots(1), OSError, model.clock)
    stream.feed(SECOND)
    model.failing_calls = {"stop"}
    assert stream.finish() == [] and model.open_streams == 0

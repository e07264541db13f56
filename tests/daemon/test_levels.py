"""The levels of microphone and speaker."""

from __future__ import annotations

import time
from array import array

import pytest

from agent.audio.level_meter import MIN_DECIBELS
from agent.daemon.levels import MAX_AGE_SECONDS, measure_levels
from agent.daemon.stages import Pipeline
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker

LOUD = array("h", [16384, -16384] * 800).tobytes()


def never_open(*arguments: object) -> None:
    raise AssertionError("this device is not opened")


def test_level_is_that_of_the_last_audio_while_it_is_recent() -> None:
    ring = RingBuffer(1000)
    microphone = Microphone(FrameQueue(1.0), never_open, print)  # type: ignore[arg-type]
    speaker = Speaker(ring, never_open, print)  # type: ignore[arg-type]
    pipeline = Pipeline(ring)
    pipeline.microphone, pipeline.speaker = microphone, speaker
    assert measure_levels(pipeline) == {"microphone": MIN_DECIBELS, "speaker": MIN_DECIBELS}
    microphone.latest = (time.monotonic() + 60.0, LOUD)
    speaker.latest = (time.monotonic() - MAX_AGE_SECONDS, LOUD)
    assert measure_levels(pipeline) == {"microphone": -6, "speaker": MIN_DECIBELS}


def test_level_of_a_long_frame_lasts_until_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = RingBuffer(1000)
    pipeline = Pipeline(ring)
    pipeline.microphone = Microphone(FrameQueue(1.0), never_open, print)  # type: ignore[arg-type]
    pipeline.microphone.latest = (100.0, LOUD * 10)  # one second
    now = 100.99
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert measure_levels(pipeline) == {"microphone": -6}
    now = 100.0 + 1.0 + MAX_AGE_SECONDS
    assert measure_levels(pipeline) == {"microphone": MIN_DECIBELS}


def test_device_that_the_mode_does_not_use_has_no_level() -> None:
    assert measure_levels(Pipeline(RingBuffer(1000))) == {}

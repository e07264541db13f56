"""The current levels of microphone and speaker."""

from __future__ import annotations

import time

from agent.audio.convert import measure_level
from agent.audio.level_meter import MIN_DECIBELS, decibels
from agent.daemon.stages import Pipeline

MAX_AGE_SECONDS = 0.5
"""Older audio is no longer heard. Longer than a frame and than the writes of a speaker that plays."""

MAX_BYTES = 3200
"""The end of the audio that is measured: 0.1 s at 16 kHz."""


def measure_levels(pipeline: Pipeline) -> dict[str, int]:
    """Return the level of each device in dBFS (root mean square), -96 to 0. Thread-safe.

    The stages only keep a reference to their last audio, so that levels cost nothing while no program asks for them.
    """
    levels = {}
    for name, stage in (("microphone", pipeline.microphone), ("speaker", pipeline.speaker)):
        if stage is None:
            continue
        at, pcm = stage.latest
        is_current = time.monotonic() - at < MAX_AGE_SECONDS
        levels[name] = round(decibels(measure_level(pcm[-MAX_BYTES:])[0]) if is_current else MIN_DECIBELS)
    return levels

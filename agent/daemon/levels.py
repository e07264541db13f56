"""Measures the current levels of microphone and speaker."""

from __future__ import annotations

import time

from agent.audio.convert import measure_level
from agent.audio.format import SPEECH
from agent.audio.level_meter import MIN_DECIBELS, decibels
from agent.daemon.stages import Pipeline

MAX_AGE_SECONDS = 0.5
"""Older audio counts as silence. Longer than the interval of writes during playback. For the microphone, the length of
a frame is added, because the next frame arrives after this time."""

MAX_BYTES = 3200
"""Length of the audio that is measured, the end of the last frame or write: 0.1 s at 16 kHz, mono, s16le."""


def measure_levels(pipeline: Pipeline) -> dict[str, int]:
    """Return the level of each device in dBFS (root mean square), -96 to 0. Thread-safe.

    The stages only keep a reference to their last audio, so the levels take no time unless a program requests them.
    """
    levels = {}
    for name, stage in (("microphone", pipeline.microphone), ("speaker", pipeline.speaker)):
        if stage is None:
            continue
        at, pcm = stage.latest
        frame_seconds = SPEECH.seconds_of(len(pcm)) if name == "microphone" else 0.0
        is_current = time.monotonic() - at < MAX_AGE_SECONDS + frame_seconds
        levels[name] = round(decibels(measure_level(pcm[-MAX_BYTES:])[0]) if is_current else MIN_DECIBELS)
    return levels

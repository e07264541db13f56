"""Level meter for s16le audio, in decibels relative to full scale (dBFS)."""

from __future__ import annotations

import math
from array import array
from collections import deque

from agent.audio.convert import measure_level
from agent.system.named_tuple import NamedTuple

FULL_SCALE = 32768
MIN_DECIBELS = -96.0
"""The lowest level that is reported, also for digital silence, in dBFS: about the dynamic range of 16 bits."""

FLOOR_SECONDS = 3.0
PEAK_SECONDS = 1.5
_FLOOR_FRACTION = 10


class Level(NamedTuple):
    """One reading of the meter. Immutable. Levels in dBFS, -96 to 0.

    ``level``: root mean square of this frame; ``peak``: highest sample of the last ``PEAK_SECONDS``; ``floor``: noise
    level without speech; ``clipped``: number of samples of this frame at full scale.
    """

    level: float
    peak: float
    floor: float
    clipped: int


class LevelMeter:
    """Measures successive frames of ``frame_seconds``. Not thread-safe; one thread owns it.

    The floor is the 10th percentile of the levels of the frames in the last ``FLOOR_SECONDS``.
    """

    def __init__(self, frame_seconds: float) -> None:
        self._levels: deque[float] = deque(maxlen=max(1, round(FLOOR_SECONDS / frame_seconds)))
        self._peaks: deque[float] = deque(maxlen=max(1, round(PEAK_SECONDS / frame_seconds)))

    def feed(self, frame: bytes) -> Level:
        """Measure the next frame (s16le)."""
        root, peak = measure_level(frame)
        self._levels.append(decibels(root))
        self._peaks.append(decibels(peak))
        floor = sorted(self._levels)[len(self._levels) // _FLOOR_FRACTION]
        return Level(self._levels[-1], max(self._peaks), floor, count_clipped(frame))


def decibels(amplitude: float) -> float:
    """Convert an amplitude (0 to 32768) to dBFS, at least ``MIN_DECIBELS``."""
    return max(MIN_DECIBELS, 20 * math.log10(amplitude / FULL_SCALE)) if amplitude > 0 else MIN_DECIBELS


def count_clipped(pcm: bytes) -> int:
    """Count the samples at the positive or negative full scale."""
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    return samples.count(FULL_SCALE - 1) + samples.count(-FULL_SCALE)

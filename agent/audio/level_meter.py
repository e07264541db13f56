"""How loud a microphone is, in decibels below the loudest there can be."""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass

from agent.audio.convert import measure_level

FULL_SCALE = 32768
MIN_DECIBELS = -96.0
"""What a silent microphone is said to have: the smallest step of 16 bits."""

FLOOR_SECONDS = 3.0
PEAK_SECONDS = 1.5
_LOW_SHARE = 10


@dataclass(frozen=True, slots=True)
class Level:
    """``level`` of this frame, ``peak`` of the last moments, ``floor``: the noise when nobody speaks; decibels of full
    scale, -96 to 0. ``clipped``: samples of this frame that stood at an end of the scale."""

    level: float
    peak: float
    floor: float
    clipped: int


class LevelMeter:
    """Takes frame after frame of ``frame_seconds``; the floor is what a tenth of the last three seconds stays below."""

    def __init__(self, frame_seconds: float) -> None:
        self._levels: deque[float] = deque(maxlen=max(1, round(FLOOR_SECONDS / frame_seconds)))
        self._peaks: deque[float] = deque(maxlen=max(1, round(PEAK_SECONDS / frame_seconds)))

    def feed(self, frame: bytes) -> Level:
        root, peak = measure_level(frame)
        self._levels.append(decibels(root))
        self._peaks.append(decibels(peak))
        floor = sorted(self._levels)[len(self._levels) // _LOW_SHARE]
        return Level(self._levels[-1], max(self._peaks), floor, clipped(frame))


def decibels(amplitude: float) -> float:
    """Of full scale."""
    return max(MIN_DECIBELS, 20 * math.log10(amplitude / FULL_SCALE)) if amplitude > 0 else MIN_DECIBELS


def clipped(pcm: bytes) -> int:
    """How many samples stand at an end of the scale."""
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    return samples.count(FULL_SCALE - 1) + samples.count(-FULL_SCALE)

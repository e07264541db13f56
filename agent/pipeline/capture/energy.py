"""The energy gate: compares the level of short chunks of audio with the recent noise level."""

from __future__ import annotations

import math
from array import array
from collections import deque

CHUNK_SECONDS = 0.02

_WINDOW_SECONDS = 1.8
_FLOOR_DIVISOR = 10
_HISTORY_SECONDS = 10.0
# Measured with speech 10 dB above white noise: these values detect five frames in six and no noise frame as speech.
# With 9 and 6 dB only two frames in three are detected; with 6 and 3 dB one frame in sixteen of rumble counts as
# speech.
_ONSET_DECIBELS = 7.0
_SUSTAIN_DECIBELS = 4.0
# Decibels relative to one unit of a 16-bit sample. A lower level is a muted or digital input, not noise, and a signal
# only a few decibels above it is not speech directed at the device.
_MIN_FLOOR_DECIBELS = 26.0


class EnergyGate:
    """Classifies a chunk as sound if it is clearly louder than the noise of the last 1.8 s.

    The noise floor is the level that a tenth of the chunks in the window do not exceed. Speech has pauses and does not
    raise the floor; a fan counts as noise once it fills the window. The floor follows a drop of the noise within 0.2 s.
    A sound that has started may become slightly softer before it ends, so that word endings stay complete. Costs 0.6 ms
    of one x86 core per second of audio. Not thread-safe; owned by the thread that owns the detector.

    Args:
        chunk_seconds: length of a chunk.
        onset_decibels: how far the first chunk of a sound has to exceed the noise floor.
        sustain_decibels: how far the following chunks have to exceed the noise floor.
        min_floor_decibels: lowest noise floor, relative to one unit of a 16-bit sample.
    """

    def __init__(
        self,
        chunk_seconds: float = CHUNK_SECONDS,
        onset_decibels: float = _ONSET_DECIBELS,
        sustain_decibels: float = _SUSTAIN_DECIBELS,
        min_floor_decibels: float = _MIN_FLOOR_DECIBELS,
    ) -> None:
        self._onset, self._sustain, self._min_floor = onset_decibels, sustain_decibels, min_floor_decibels
        chunks = round(_WINDOW_SECONDS / chunk_seconds)
        # Assume low noise until the window is full: the user may speak immediately.
        self._levels = deque([min_floor_decibels] * chunks, maxlen=chunks)
        self._history: deque[float] = deque(maxlen=round(_HISTORY_SECONDS / chunk_seconds))
        self._raised_by = 0.0
        self._learned_floor = min_floor_decibels
        self._is_loud = False

    @property
    def noise_floor(self) -> float:
        """The noise level, in decibels relative to one unit of a 16-bit sample."""
        return max(self._learned_floor, sorted(self._levels)[len(self._levels) // _FLOOR_DIVISOR])

    @property
    def level(self) -> float:
        """The level of the last chunk, in decibels relative to one unit of a 16-bit sample."""
        return self._levels[-1]

    def is_loud(self, chunk: bytes) -> bool:
        """Return whether a chunk (16 kHz mono s16le) exceeds the noise, and add it to the noise window."""
        samples = array("h", chunk)
        # The mean is removed: the constant offset of a cheap microphone is not sound.
        power = math.hypot(*samples) ** 2 / len(samples) - (sum(samples) / len(samples)) ** 2
        level = 10 * math.log10(max(1.0, power))
        margin = (self._sustain if self._is_loud else self._onset) + self._raised_by
        self._is_loud = level > self.noise_floor + margin
        self._levels.append(level)
        self._history.append(level)
        return self._is_loud

    def raise_threshold(self, decibels: float, *, learn_noise: bool = False) -> None:
        """Set the threshold above its normal value; 0 returns to normal.

        Args:
            decibels: difference to the normal threshold.
            learn_noise: whether the sound of the last 10 s is noise. The floor rises to the level that three quarters
                of its chunks do not exceed.
        """
        self._raised_by = decibels
        if learn_noise and self._history:
            self._learned_floor = max(self._min_floor, sorted(self._history)[len(self._history) * 3 // 4])
        elif not decibels:
            self._learned_floor = self._min_floor

    @property
    def is_raised(self) -> bool:
        """Whether the threshold is above its normal value."""
        return self._raised_by > 0

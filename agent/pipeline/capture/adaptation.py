"""Adaptation of the voice activity detection to sounds that are mistaken for speech."""

from __future__ import annotations

import logging

from agent.pipeline.capture.energy import EnergyGate

log = logging.getLogger(__name__)

STEP_DECIBELS = 6.0
MAX_DECIBELS = 12.0
HOLD_SECONDS = 60.0
WORDLESS_SEGMENTS = 2


class NoiseAdaptation:
    """Raises the energy threshold while segments yield no words.

    After two segments without words in a row, and after each further one, the threshold rises by 6 dB, at most by
    12 dB. If these segments were cut at their maximum length, the sound has no pauses, and its level becomes the noise
    floor. The threshold returns to normal after a segment with words, or 60 s after it was raised last.
    Not thread-safe; owned by the thread that owns the detector.

    Args:
        gate: the energy gate of the detector.
    """

    def __init__(self, gate: EnergyGate) -> None:
        self._gate = gate
        self._wordless_segments = self._cut_segments = 0
        self._decibels = 0.0
        self._remaining_seconds = 0.0

    def advance(self, seconds: float) -> None:
        """Note the length in seconds of the audio that was classified."""
        if self._decibels:
            self._remaining_seconds -= seconds
            if self._remaining_seconds <= 0:
                self._set(0.0)

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        """Note the result of a segment.

        Args:
            has_words: whether its transcript has words.
            is_cut: whether it ended at its maximum length instead of a pause.
        """
        if has_words:
            self._wordless_segments = self._cut_segments = 0
            if self._decibels:
                self._set(0.0)
            return
        self._wordless_segments += 1
        self._cut_segments = self._cut_segments + 1 if is_cut else 0
        if self._wordless_segments >= WORDLESS_SEGMENTS:
            self._remaining_seconds = HOLD_SECONDS
            is_endless = self._cut_segments >= WORDLESS_SEGMENTS
            self._set(min(MAX_DECIBELS, self._decibels + STEP_DECIBELS), learn_noise=is_endless)

    def _set(self, decibels: float, *, learn_noise: bool = False) -> None:
        self._decibels = decibels
        self._gate.raise_threshold(decibels, learn_noise=learn_noise)
        if decibels:
            log.info(
                "voice activity: threshold raised, segments_without_words=%d, decibels=%g",
                self._wordless_segments,
                decibels,
            )
        else:
            log.info("voice activity: threshold returned to normal")

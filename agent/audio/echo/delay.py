"""Finds the delay between what the speaker plays and its echo in the microphone."""

from __future__ import annotations

import math

from agent.audio.convert import Resampler
from agent.audio.echo.speex import AdaptiveFilter
from agent.audio.format import SAMPLE_BYTES, SPEECH

RATE = 4000
"""Sample rate in Hz. The band up to half of this rate has most of the power of speech; one sample is 0.25 ms."""
BLOCK_SAMPLES = 256
MAX_DELAY_SECONDS = 1.024
CHECK_SECONDS = 0.512

# Measured with speech in a simulated room: the highest tap is at least 15 times the root mean square of all taps if the
# filter has found the echo, and at most 12 times if it has not.
MIN_PROMINENCE = 13.0
SAME_SECONDS = 0.002
"""The delay is found if the delays of two consecutive checks differ by at most this."""


class DelayFinder:
    """Finds the delay with an adaptive filter that is as long as the longest delay.

    An adaptive filter whitens the spectrum, so it finds the delay of speech sooner than a correlation does, and
    libspeexdsp has such a filter. Measured: 1 to 2 s of speech for 0.2 s of delay, 4 s for 0.9 s; 0.8 ms of one x86
    core per second. ``seconds`` is the delay, ``None`` until it is found. Not thread-safe; one thread owns it.

    Raises:
        AudioError: If libspeexdsp is missing.
    """

    def __init__(self) -> None:
        self._to_rate = (Resampler(SPEECH.rate, RATE), Resampler(SPEECH.rate, RATE))
        self._filter = AdaptiveFilter(BLOCK_SAMPLES, round(MAX_DELAY_SECONDS * RATE), RATE)
        self._microphone, self._reference = bytearray(), bytearray()
        self._samples = 0
        self._candidate: float | None = None
        self.seconds: float | None = None

    def feed(self, block: bytes, reference: bytes) -> None:
        """Process microphone audio and the reference of the same time (both 16 kHz mono s16le)."""
        self._microphone += self._to_rate[0].feed(block)
        self._reference += self._to_rate[1].feed(reference)
        size = BLOCK_SAMPLES * SAMPLE_BYTES
        while len(self._microphone) >= size and len(self._reference) >= size:
            self._filter.cancel(bytes(self._microphone[:size]), bytes(self._reference[:size]))
            del self._microphone[:size], self._reference[:size]
            self._samples += BLOCK_SAMPLES
            if self._samples >= CHECK_SECONDS * RATE:
                self._samples = 0
                self._check()

    def _check(self) -> None:
        taps = self._filter.impulse_response()
        peak = max(map(abs, taps))
        mean = math.hypot(*taps) / math.sqrt(len(taps))
        if not mean or peak < MIN_PROMINENCE * mean:
            self._candidate = None
            return
        delay = [abs(tap) for tap in taps].index(peak) / RATE
        if self._candidate is not None and abs(delay - self._candidate) <= SAME_SECONDS:
            self.seconds = delay
        self._candidate = delay

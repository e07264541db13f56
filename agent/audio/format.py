"""What the numbers in a stream of sound mean: its rate and its channels. A sample is always 16 bits, little-endian."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import AudioError

SAMPLE_BYTES = 2
MIN_RATE, MAX_RATE = 1000, 384_000
MAX_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Format:
    """Signed 16-bit little-endian PCM of ``rate`` Hz and ``channels`` interleaved channels.

    A rate or a number of channels that no sound card has is an ``AudioError``, so that what a service or a file claims
    may be handed in as it is.
    """

    rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if not MIN_RATE <= self.rate <= MAX_RATE or not 0 < self.channels <= MAX_CHANNELS:
            raise AudioError(
                f"sound of {self.rate} Hz with {self.channels} channels cannot be handled: "
                f"use {MIN_RATE} to {MAX_RATE} Hz and 1 to {MAX_CHANNELS} channels"
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel: no amount of sound is cut in the middle of these."""
        return SAMPLE_BYTES * self.channels

    def bytes_of(self, seconds: float) -> int:
        """Bytes of ``seconds`` of sound, rounded to whole samples of every channel."""
        return round(seconds * self.rate) * self.frame_bytes

    def seconds_of(self, nbytes: int) -> float:
        """How long ``nbytes`` of sound last, in seconds."""
        return nbytes / (self.rate * self.frame_bytes)

    def __str__(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{self.rate} Hz {channels}"


SPEECH = Format(16000)
"""What the microphone gives and the transcription service takes."""

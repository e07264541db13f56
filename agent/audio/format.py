"""The format of PCM audio: sample rate and channels of signed 16-bit little-endian samples (s16le)."""

from __future__ import annotations

from agent.errors import AudioError
from agent.system.named_tuple import NamedTuple

SAMPLE_BYTES = 2
MIN_RATE, MAX_RATE = 100, 1_536_000  # in Hz
MAX_CHANNELS = 8


class _Format(NamedTuple):
    """The fields of ``Format``, in a base class because a ``NamedTuple`` cannot define its ``__new__``. Immutable."""

    rate: int
    channels: int = 1


class Format(_Format):
    """Signed 16-bit little-endian PCM of ``rate`` Hz with ``channels`` interleaved channels. Immutable.

    Raises:
        AudioError: If the rate or the number of channels is out of range. The caller need not check values from a
            service or a file first.
    """

    __slots__ = ()

    def __new__(cls, rate: int, channels: int = 1) -> Format:
        if not MIN_RATE <= rate <= MAX_RATE or not 0 < channels <= MAX_CHANNELS:
            raise AudioError(
                f"cannot handle audio of {rate} Hz with {channels} channels: the format is out of range. "
                f"Use {MIN_RATE} to {MAX_RATE} Hz and 1 to {MAX_CHANNELS} channels"
            )
        return super().__new__(cls, rate, channels)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel, the smallest unit of audio."""
        return SAMPLE_BYTES * self.channels

    def bytes_of(self, seconds: float) -> int:
        """Return the size of ``seconds`` of audio in bytes, rounded to whole frames."""
        return round(seconds * self.rate) * self.frame_bytes

    def seconds_of(self, nbytes: int) -> float:
        """Return the duration of ``nbytes`` of audio in seconds."""
        return nbytes / (self.rate * self.frame_bytes)

    def __str__(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{self.rate} Hz {channels}"


SPEECH = Format(16000)
"""The format of the microphone sources and of the transcription service: 16 kHz mono s16le."""

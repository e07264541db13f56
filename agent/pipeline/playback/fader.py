"""Applies the volume to an utterance without clicks: changes of the volume become ramps, and pauses are faded."""

from __future__ import annotations

from array import array

from agent.audio.convert import scale
from agent.audio.format import Format

FADE_SECONDS = 0.005


class Fader:
    """Applies the volume to the audio (s16le) of one utterance. Not thread-safe; owned by the speaker thread.

    A change of the volume becomes a ramp over the next piece. The first piece of the utterance and the first piece
    after a pause have the current volume without a ramp. The last ``FADE_SECONDS`` are held back, so that ``pause`` can
    fade them out when the next piece is late. The piece after a pause is faded in. At 100 percent and without a pause
    the output equals the input.

    Args:
        format: Rate and channels of the audio.
    """

    def __init__(self, format: Format) -> None:
        self._format = format
        self._percent: int | None = None  # volume of the last piece; None at the start and after a pause
        self._fade_bytes = format.bytes_of(FADE_SECONDS)
        self._tail = b""
        self._fades_in = False

    def feed(self, pcm: bytes, percent: int) -> bytes:
        """Apply the volume ``percent`` to whole frames; return the audio that is ready.

        The output is ``FADE_SECONDS`` behind the input.
        """
        if self._percent is not None and self._percent != percent:
            pcm = ramp(pcm, self._percent / 100, percent / 100, self._format.channels)
        else:
            pcm = scale(pcm, percent)
        self._percent = percent
        if self._fades_in and pcm:
            start = pcm[: self._fade_bytes]
            pcm = ramp(start, 0.0, 1.0, self._format.channels) + pcm[len(start) :]
            self._fades_in = False
        pcm = self._tail + pcm
        ready_bytes = max(0, len(pcm) - self._fade_bytes)
        self._tail = pcm[ready_bytes:]
        return pcm[:ready_bytes]

    def pause(self) -> bytes:
        """Return the audio that was held back, faded out, because the next piece is late."""
        tail, self._tail = self._tail, b""
        self._percent, self._fades_in = None, True
        return ramp(tail, 1.0, 0.0, self._format.channels)

    def finish(self) -> bytes:
        """Return the audio that was held back, at the end of the utterance."""
        tail, self._tail = self._tail, b""
        return tail


def ramp(pcm: bytes, first: float, last: float, channels: int) -> bytes:
    """Scale ``pcm`` by a factor that changes linearly from ``first`` to ``last`` (each 0 to 1), frame by frame."""
    samples = array("h", pcm[: len(pcm) // (2 * channels) * 2 * channels])
    frames = len(samples) // channels
    if not frames:
        return pcm
    step = (last - first) / frames
    factors = [first + step * (frame + 1) for frame in range(frames)]
    for channel in range(channels):
        samples[channel::channels] = array(
            "h", [round(sample * factor) for sample, factor in zip(samples[channel::channels], factors, strict=True)]
        )
    return samples.tobytes() + pcm[len(samples) * 2 :]

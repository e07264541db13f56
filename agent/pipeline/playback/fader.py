"""How loud the speaker is, without a click: changes are ramps, and what breaks off is faded."""

from __future__ import annotations

from array import array

from agent.audio.convert import scale
from agent.audio.format import Format

FADE_SECONDS = 0.005


class Fader:
    """The sound of one utterance on its way to the sink: ``percent`` of its loudness, which may change at any time.

    A change takes effect as a ramp over the piece that is fed next. The last ``FADE_SECONDS`` that were fed are held
    back, so that they can still be faded out when nothing follows them in time (``pause``); what is fed after that is
    faded in. At 100 percent, and with no pause, exactly what went in comes out.
    """

    def __init__(self, format: Format, percent: int) -> None:
        self._format = format
        self._percent = percent
        self._fade_bytes = format.bytes_of(FADE_SECONDS)
        self._tail = b""
        self._fade_in = False

    def feed(self, pcm: bytes, percent: int) -> bytes:
        """Whole frames in, at ``percent`` from now on; as many frames out, those before them included, in all but the
        first ``FADE_SECONDS``."""
        if percent != self._percent:
            pcm = ramp(pcm, self._percent / 100, percent / 100, self._format.channels)
            self._percent = percent
        else:
            pcm = scale(pcm, percent)
        if self._fade_in and pcm:
            fading = pcm[: self._fade_bytes]
            pcm = ramp(fading, 0.0, 1.0, self._format.channels) + pcm[len(fading) :]
            self._fade_in = False
        pcm = self._tail + pcm
        ready = max(0, len(pcm) - self._fade_bytes)
        self._tail = pcm[ready:]
        return pcm[:ready]

    def pause(self) -> bytes:
        """What was held back, faded out: for a while nothing follows."""
        tail, self._tail = self._tail, b""
        self._fade_in = True
        return ramp(tail, 1.0, 0.0, self._format.channels)

    def finish(self) -> bytes:
        """What was held back: it was the end."""
        tail, self._tail = self._tail, b""
        return tail


def ramp(pcm: bytes, first: float, last: float, channels: int) -> bytes:
    """``pcm`` with its loudness going from ``first`` to ``last``, each 0 to 1, evenly, frame by frame."""
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

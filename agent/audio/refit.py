"""PCM of one format made into another, as a whole: rate and channels."""

from __future__ import annotations

from agent.audio.convert import Resampler, to_mono, to_stereo
from agent.audio.format import Format
from agent.errors import AudioError


class Refit:
    """Sound in the format ``source`` becomes sound in ``wanted``, piece by piece in whole frames; ``finish`` gives the
    rest. Channels that do not fit are mixed into one. ``AudioError`` where it cannot be done."""

    def __init__(self, source: Format, wanted: Format) -> None:
        self.source, self.wanted = source, wanted
        self._mixes = source.channels != wanted.channels
        if self._mixes and wanted.channels > 2:
            raise AudioError(f"the sound changes from {wanted} to {source} in the middle: one format is expected")
        self._resampler = Resampler(source.rate, wanted.rate, 1 if self._mixes else source.channels)

    def feed(self, pcm: bytes) -> bytes:
        if self._mixes:
            pcm = to_mono(pcm, self.source.channels)
        return self._spread(self._resampler.feed(pcm))

    def finish(self) -> bytes:
        return self._spread(self._resampler.finish())

    def _spread(self, pcm: bytes) -> bytes:
        return to_stereo(pcm) if self._mixes and self.wanted.channels == 2 else pcm

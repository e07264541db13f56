"""Decoder of the samples of WAV files and streams, plain or in blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from agent.audio.convert import SAMPLE_WIDTHS, to_s16le
from agent.errors import AudioError

if TYPE_CHECKING:
    from agent.audio.decoders.adpcm import ImaAdpcm, MsAdpcm
    from agent.audio.decoders.gsm import Gsm610

BLOCK_ENCODINGS = ("ima_adpcm", "ms_adpcm", "gsm610")


class SampleDecoder:
    """Decodes whole frames, or whole blocks of frames, to s16le. Not thread-safe; one thread owns it.

    Args:
        encoding: A key of ``convert.SAMPLE_WIDTHS``, or one of ``BLOCK_ENCODINGS``.
        channels: Interleaved channels.
        block_bytes: Size of a block, for ``BLOCK_ENCODINGS``.

    Attributes:
        frame_bytes: Size of a frame or block; the input of ``decode`` has a multiple of this size.
        decode: Converts whole frames or blocks to s16le.

    Raises:
        AudioError: The encoding does not support this block size or number of channels.
    """

    def __init__(self, encoding: str, channels: int, block_bytes: int = 0) -> None:
        self._is_made_for = encoding, channels, block_bytes
        self.decode: Callable[[bytes], bytes]
        if encoding not in BLOCK_ENCODINGS:
            self.frame_bytes = SAMPLE_WIDTHS[encoding] * channels
            self.decode = partial(to_s16le, encoding=encoding)
            return
        decoder = _block_decoder(encoding)
        if not decoder.is_valid(channels, block_bytes):
            raise AudioError(
                f"cannot decode WAV: {encoding} samples with {channels} channels in blocks of {block_bytes} bytes "
                "are not supported. Use 16-bit PCM."
            )
        self.frame_bytes, self.decode = block_bytes, decoder(channels, block_bytes).decode

    def is_made_for(self, encoding: str, channels: int, block_bytes: int) -> bool:
        """Return whether these are the arguments of the constructor."""
        return self._is_made_for == (encoding, channels, block_bytes)


def _block_decoder(encoding: str) -> type[ImaAdpcm | MsAdpcm | Gsm610]:
    # Imported here because nearly all files have plain samples.
    if encoding == "gsm610":
        from agent.audio.decoders.gsm import Gsm610

        return Gsm610
    from agent.audio.decoders.adpcm import ImaAdpcm, MsAdpcm

    return ImaAdpcm if encoding == "ima_adpcm" else MsAdpcm

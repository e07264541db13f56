"""G.711 companding: 16-bit samples to 8-bit mu-law or A-law."""

from __future__ import annotations

import array
import functools

_MULAW_BIAS, _MULAW_CLIP = 132, 32635


def compand(pcm: bytes, law: str) -> bytes:
    """Encode s16le as one byte per sample. ``law`` is ``mulaw`` or ``alaw`` (ITU-T G.711)."""
    table = _table(law)
    # Both laws use at most the upper 14 bits of a sample, so the table has one entry per four sample values.
    return bytes([table[(sample >> 2) + 8192] for sample in array.array("h", pcm)])


@functools.cache
def _table(law: str) -> bytes:
    encode = _mulaw if law == "mulaw" else _alaw
    return bytes(encode(sample << 2) for sample in range(-8192, 8192))


def _mulaw(sample: int) -> int:
    sign, magnitude = (0x80, -sample) if sample < 0 else (0, sample)
    magnitude = min(magnitude, _MULAW_CLIP) + _MULAW_BIAS
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF


def _alaw(sample: int) -> int:
    sample >>= 3
    sign, magnitude = (0x55, -sample - 1) if sample < 0 else (0xD5, sample)
    segment = max(0, magnitude.bit_length() - 5)
    return (segment << 4 | (magnitude >> max(segment, 1)) & 0x0F) ^ sign

"""G.711: a sample of 16 bits in 8, by mu-law or by A-law."""

from __future__ import annotations

import array
import functools

_MULAW_BIAS, _MULAW_CLIP = 132, 32635


def compand(pcm: bytes, law: str) -> bytes:
    """s16le in one byte a sample; ``law`` is ``mulaw`` or ``alaw`` (ITU-T G.711)."""
    table = _table(law)
    # Both laws look at the upper 14 bits of a sample at most, so the table needs a quarter of all samples only.
    return bytes([table[(sample >> 2) + 8192] for sample in array.array("h", pcm)])


@functools.cache
def _table(law: str) -> bytes:
    code = _mulaw if law == "mulaw" else _alaw
    return bytes(code(sample << 2) for sample in range(-8192, 8192))


def _mulaw(sample: int) -> int:
    sign, size = (0x80, -sample) if sample < 0 else (0, sample)
    size = min(size, _MULAW_CLIP) + _MULAW_BIAS
    exponent = size.bit_length() - 8
    return ~(sign | exponent << 4 | (size >> (exponent + 3)) & 0x0F) & 0xFF


def _alaw(sample: int) -> int:
    sample >>= 3
    sign, size = (0x55, -sample - 1) if sample < 0 else (0xD5, sample)
    segment = max(0, size.bit_length() - 5)
    return (segment << 4 | (size >> max(segment, 1)) & 0x0F) ^ sign

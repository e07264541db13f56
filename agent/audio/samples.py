"""Every encoding of a sample that arrives uncompressed or companded, as signed 16-bit little-endian."""

from __future__ import annotations

from functools import cache

WIDTHS = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "mulaw": 1, "alaw": 1}
"""Bytes of one sample in each encoding."""


def to_s16le(data: bytes, encoding: str) -> bytes:
    """Whole samples in ``encoding`` (a key of ``WIDTHS``) as s16le; what is finer than 16 bits is cut off."""
    width = WIDTHS[encoding]
    if encoding == "s16le":
        return data
    out = bytearray(2 * (len(data) // width))
    if width > 2:
        out[0::2] = data[width - 2 :: width]
        out[1::2] = data[width - 1 :: width]
    else:
        low, high = _tables(encoding)
        out[0::2] = data.translate(low)
        out[1::2] = data.translate(high)
    return bytes(out)


@cache
def _tables(encoding: str) -> tuple[bytes, bytes]:
    """The low and the high byte of the sample that each byte stands for."""
    decode = {"u8": _u8, "mulaw": _mulaw, "alaw": _alaw}[encoding]
    samples = [decode(code).to_bytes(2, "little", signed=True) for code in range(256)]
    return bytes(s[0] for s in samples), bytes(s[1] for s in samples)


def _u8(code: int) -> int:
    return (code - 128) << 8


def _mulaw(code: int) -> int:
    """ITU-T G.711: sent inverted; sign, three bits of exponent, four of mantissa, over a bias of 33 in 14 bits."""
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    """ITU-T G.711: sent with every other bit inverted; the sign bit is set for positive samples."""
    code ^= 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = mantissa + 8 if exponent == 0 else (mantissa + 0x108) << (exponent - 1)
    return magnitude if code & 0x80 else -magnitude

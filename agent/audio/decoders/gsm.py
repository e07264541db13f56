"""Decoder of GSM 6.10 full rate in WAV: blocks of 65 bytes with two frames of 160 samples."""

from __future__ import annotations

import struct
from itertools import pairwise

BLOCK_BYTES = 65

_FRAMES = 2
_HISTORY = 120
_SEGMENT = 40
_LAR_BITS = (6, 6, 5, 5, 4, 4, 3, 3)
# For each log area ratio: offset, smallest code, inverse of the scale (GSM 06.10, table 4.1).
_LAR_SCALES = (
    (0, -32, 13107), (0, -32, 13107), (2048, -16, 13107), (-2560, -16, 13107),
    (94, -8, 19223), (-1792, -8, 17476), (-341, -4, 31454), (-1144, -4, 29708),
)  # fmt: skip
_MANTISSAS = (18431, 20479, 22527, 24575, 26623, 28671, 30719, 32767)
_GAINS = (3277, 11469, 21299, 32767)
_DEEMPHASIS = 28180
# Ends of the parts of a frame, in samples. The coefficients of the first three parts are interpolated between the
# previous and the current frame with the weights 3:1, 1:1 and 1:3.
_PARTS = (13, 27, 40, 160)


def _limit(value: int) -> int:
    """Saturate to 16 bits."""
    return value if -32768 <= value <= 32767 else 32767 if value > 0 else -32768


def _product(a: int, b: int) -> int:
    """Return the rounded product of two fractions with 15 fractional bits."""
    return min(32767, (a * b + 16384) >> 15)


class Gsm610:
    """Decodes whole blocks to s16le, 8000 Hz mono in most files. Not thread-safe; one thread owns it.

    The arithmetic is exactly that of GSM 06.10: 16-bit integers with saturation. The lowest bit of each byte of a block
    is read first (source: libsndfile 1.2.2).
    """

    def __init__(self, channels: int, block_bytes: int) -> None:
        self._excitation = [0] * _HISTORY
        self._lag = _SEGMENT
        self._ratios = [0] * 8
        self._memory = [0] * 9
        self._last = 0

    @staticmethod
    def is_valid(channels: int, block_bytes: int) -> bool:
        """Return whether blocks of this size can be decoded."""
        return channels == 1 and block_bytes == BLOCK_BYTES

    def decode(self, data: bytes) -> bytes:
        """Return the sound of whole blocks."""
        samples: list[int] = []
        for at in range(0, len(data), BLOCK_BYTES):
            bits = int.from_bytes(data[at : at + BLOCK_BYTES], "little")
            for _ in range(_FRAMES):
                bits = self._decode_frame(bits, samples)
        return struct.pack(f"<{len(samples)}h", *samples)

    def _decode_frame(self, bits: int, samples: list[int]) -> int:
        """Append the samples of one frame to ``samples``; return the bits after the frame."""
        codes = []
        for size in _LAR_BITS:
            codes.append(bits & (1 << size) - 1)
            bits >>= size
        residual: list[int] = []
        for _ in range(4):
            lag, gain, grid, peak = bits & 127, bits >> 7 & 3, bits >> 9 & 3, bits >> 11 & 63
            bits >>= 17
            pulses = [bits >> 3 * number & 7 for number in range(13)]
            bits >>= 39
            residual += self._excite(lag, gain, grid, peak, pulses)
        self._synthesize(codes, residual, samples)
        return bits

    def _excite(self, lag: int, gain: int, grid: int, peak: int, pulses: list[int]) -> list[int]:
        """Return the 40 samples of one segment of the residual: pulses on a grid plus the residual one lag earlier."""
        exponent = (peak >> 3) - 1 if peak > 15 else 0
        mantissa = peak - (exponent << 3)
        if mantissa == 0:
            exponent, mantissa = -4, 7
        else:
            while mantissa <= 7:
                mantissa, exponent = mantissa << 1 | 1, exponent - 1
            mantissa -= 8
        shift = 6 - exponent
        rounding = 1 << shift - 1 if shift else 0
        segment = [0] * _SEGMENT
        for number, pulse in enumerate(pulses):
            segment[grid + 3 * number] = (
                _limit(_product(_MANTISSAS[mantissa], (2 * pulse - 7) << 12) + rounding) >> shift
            )
        if _SEGMENT <= lag <= _HISTORY:
            self._lag = lag
        history, factor, lag = self._excitation, _GAINS[gain], self._lag
        for value in segment:
            history.append(_limit(value + _product(factor, history[-lag])))
        del history[:_SEGMENT]
        return history[-_SEGMENT:]

    def _synthesize(self, codes: list[int], residual: list[int], samples: list[int]) -> None:
        new = []
        for code, (offset, smallest, inverse) in zip(codes, _LAR_SCALES, strict=True):
            value = _product(inverse, _limit(((code + smallest) << 10) - 2 * offset))
            new.append(_limit(2 * value))
        old, self._ratios = self._ratios, new
        parts = (
            [_limit(_limit((a >> 2) + (b >> 2)) + (a >> 1)) for a, b in zip(old, new, strict=True)],
            [_limit((a >> 1) + (b >> 1)) for a, b in zip(old, new, strict=True)],
            [_limit(_limit((a >> 2) + (b >> 2)) + (b >> 1)) for a, b in zip(old, new, strict=True)],
            new,
        )
        for (start, end), ratios in zip(pairwise((0, *_PARTS)), parts, strict=True):
            self._filter([_reflection(ratio) for ratio in ratios], residual[start:end], samples)

    def _filter(self, reflections: list[int], residual: list[int], samples: list[int]) -> None:
        memory, last = self._memory, self._last
        stages = [(number, reflections[number]) for number in range(7, -1, -1)]
        for value in residual:
            for number, reflection in stages:
                value = _limit(value - _product(reflection, memory[number]))
                memory[number + 1] = _limit(memory[number] + _product(reflection, value))
            memory[0] = value
            last = _limit(value + _product(last, _DEEMPHASIS))
            samples.append(_limit(2 * last) & ~7)
        self._last = last


def _reflection(ratio: int) -> int:
    """Return the reflection coefficient of a log area ratio."""
    size = min(32767, abs(ratio))
    if size < 11059:
        size <<= 1
    elif size < 20070:
        size += 11059
    else:
        size = min(32767, (size >> 2) + 26112)
    return -size if ratio < 0 else size

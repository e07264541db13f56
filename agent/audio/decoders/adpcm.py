"""Decoders of IMA ADPCM and MS ADPCM in WAV: blocks of 4-bit samples that begin with the state of the decoder."""

from __future__ import annotations

import struct
from array import array

_IMA_STEPS = (
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
)  # fmt: skip
_IMA_INDEX_CHANGES = (-1, -1, -1, -1, 2, 4, 6, 8)
_IMA_WORD_BYTES = 4

_MS_FACTORS = (230, 230, 230, 230, 307, 409, 512, 614, 768, 614, 512, 409, 307, 230, 230, 230)
_MS_COEFFICIENTS = ((256, 0), (512, -256), (0, 0), (192, 64), (240, 0), (460, -208), (392, -232))
_MS_HEADER_BYTES = 7
_MS_MIN_DELTA = 16


def _ima_changes(step: int) -> list[int]:
    """Return the change of the sample for each 4-bit code."""
    changes = []
    for code in range(8):
        changes.append((step >> 3) + (step >> 2) * (code & 1) + (step >> 1) * (code >> 1 & 1) + step * (code >> 2))
    return changes + [-change for change in changes]


class ImaAdpcm:
    """Decodes whole blocks of IMA ADPCM to s16le. Immutable.

    A block begins with a sample and the index of a step for each channel. Words of eight samples follow, one for each
    channel in turn (source: libsndfile 1.2.2).
    """

    def __init__(self, channels: int, block_bytes: int) -> None:
        self._channels, self._block_bytes = channels, block_bytes
        self._changes = [_ima_changes(step) for step in _IMA_STEPS]
        last = len(_IMA_STEPS) - 1
        self._next = [
            [max(0, min(last, index + _IMA_INDEX_CHANGES[code & 7])) for code in range(16)] for index in range(last + 1)
        ]

    @staticmethod
    def is_valid(channels: int, block_bytes: int) -> bool:
        """Return whether blocks of this size can be decoded."""
        return channels <= 2 and block_bytes >= 2 * channels * _IMA_WORD_BYTES

    def decode(self, data: bytes) -> bytes:
        """Return the sound of whole blocks."""
        size = self._block_bytes
        return b"".join(self._decode(data[at : at + size]) for at in range(0, len(data), size))

    def _decode(self, block: bytes) -> bytes:
        channels = self._channels
        stride = channels * _IMA_WORD_BYTES
        words = (len(block) - stride) // stride
        out = array("h", bytes(2 * channels * (8 * words + 1)))
        for channel in range(channels):
            sample, index = struct.unpack_from("<hB", block, channel * _IMA_WORD_BYTES)
            index = min(index, len(_IMA_STEPS) - 1)
            decoded = [sample]
            for at in range(stride + channel * _IMA_WORD_BYTES, stride + words * stride, stride):
                for byte in block[at : at + _IMA_WORD_BYTES]:
                    for code in (byte & 15, byte >> 4):
                        sample += self._changes[index][code]
                        if not -32768 <= sample <= 32767:
                            sample = 32767 if sample > 0 else -32768
                        index = self._next[index][code]
                        decoded.append(sample)
            out[channel::channels] = array("h", decoded)
        return _little_endian(out)


class MsAdpcm:
    """Decodes whole blocks of MS ADPCM to s16le. Immutable.

    A block begins with a predictor, a step and two samples for each channel. The 4-bit samples follow, the high half of
    a byte first. The step is a 16-bit number that wraps (source: libsndfile 1.2.2). An unknown predictor counts as the
    first one.
    """

    def __init__(self, channels: int, block_bytes: int) -> None:
        self._channels, self._block_bytes = channels, block_bytes

    @staticmethod
    def is_valid(channels: int, block_bytes: int) -> bool:
        """Return whether blocks of this size can be decoded."""
        return channels <= 2 and block_bytes >= channels * _MS_HEADER_BYTES

    def decode(self, data: bytes) -> bytes:
        """Return the sound of whole blocks."""
        size = self._block_bytes
        return b"".join(self._decode(data[at : at + size]) for at in range(0, len(data), size))

    def _decode(self, block: bytes) -> bytes:
        channels = self._channels
        header = channels * _MS_HEADER_BYTES
        predictors = [_MS_COEFFICIENTS[number if number < 7 else 0] for number in block[:channels]]
        numbers = struct.unpack_from(f"<{3 * channels}h", block, channels)
        deltas = list(numbers[:channels])
        last, before = list(numbers[channels : 2 * channels]), list(numbers[2 * channels :])
        out = array("h", before + last)
        channel = 0
        for byte in block[header:]:
            for code in (byte >> 4, byte & 15):
                first, second = predictors[channel]
                delta = deltas[channel]
                sample = ((last[channel] * first + before[channel] * second) >> 8) + (code - (code & 8) * 2) * delta
                if not -32768 <= sample <= 32767:
                    sample = 32767 if sample > 0 else -32768
                deltas[channel] = max(_MS_MIN_DELTA, _wrapped(_MS_FACTORS[code] * delta >> 8))
                before[channel], last[channel] = last[channel], sample
                out.append(sample)
                channel = (channel + 1) % channels
        del out[len(out) // channels * channels :]
        return _little_endian(out)


def _little_endian(samples: array[int]) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def _wrapped(value: int) -> int:
    """Return the low 16 bits as a signed number."""
    return (value + 32768) % 65536 - 32768

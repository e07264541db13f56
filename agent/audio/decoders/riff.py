"""The parts of the RIFF family (RIFF, RIFX, RF64, BW64) that the stream decoder and the file reader share."""

from __future__ import annotations

from typing import Literal

from agent.errors import AudioError
from agent.system.named_tuple import NamedTuple

HEADER_BYTES = 12
"""Size of the file header: magic, size, form type."""

CHUNK_HEADER_BYTES = 8
"""Size of a chunk header: name, size."""

UNKNOWN_SIZE = 0x7FFF_0000
"""A chunk size of at least this value means an unknown size: encoders of live streams write 0xFFFFFFFF, 4294967040,
0x7FFFFFFF or a value slightly below 0x7FFFF000 (sox)."""

MAX_FMT_BYTES = 1 << 12

TRAILERS = (
    b"LIST", b"fact", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"bext", b"JUNK", b"junk", b"PAD ", b"PEAK", b"iXML",
    b"axml", b"chna", b"inst", b"afsp", b"_PMX", b"DISP", b"cart", b"plst", b"acid", b"FLLR", b"LGWV", b"minf", b"umid",
)  # fmt: skip
"""Names of chunks that may follow the samples. After samples of unknown length, only the name identifies a chunk."""

ByteOrder = Literal["little", "big"]

_ORDERS: dict[bytes, ByteOrder] = {b"RIFF": "little", b"RIFX": "big", b"RF64": "little", b"BW64": "little"}
_PCM, _MS_ADPCM, _FLOAT, _ALAW, _MULAW, _IMA_ADPCM, _GSM, _EXTENSIBLE = 1, 2, 3, 6, 7, 17, 49, 0xFFFE
_NAMES = {_PCM: "integer", _MS_ADPCM: "ADPCM", _FLOAT: "floating point", _IMA_ADPCM: "ADPCM", 64: "G.721", 85: "mp3"}
_INTEGERS = {1: "u8", 2: "s16", 3: "s24", 4: "s32"}  # by bytes of a sample


class WavFormat(NamedTuple):
    """The contents of a fmt chunk. Immutable.

    Args:
        encoding: A key of ``convert.SAMPLE_WIDTHS``, or one of ``samples.BLOCK_ENCODINGS``.
        rate: Sample rate in Hz, at least 1.
        channels: Interleaved channels, at least 1.
        block_bytes: Size of a block of samples; 0 if the encoding has no blocks.
    """

    encoding: str
    rate: int
    channels: int
    block_bytes: int


def byte_order(start: bytes | bytearray) -> ByteOrder | None:
    """Return the byte order of the file that starts with these 12 bytes; ``None`` if they are not a WAV header."""
    return _ORDERS.get(bytes(start[:4])) if start[8:12] == b"WAVE" else None


def may_be_header(data: bytes | bytearray) -> bool:
    """Return whether the data starts with a WAV header, or may be the beginning of one."""
    if len(data) >= HEADER_BYTES:
        return byte_order(data) is not None
    start = bytes(data[:4])
    return any(magic.startswith(start) for magic in _ORDERS) and b"WAVE".startswith(bytes(data[8:12]))


def is_chunk_name(name: bytes | bytearray) -> bool:
    """Return whether these bytes can be the name of a chunk: four printable ASCII characters."""
    return len(name) == 4 and all(32 <= code < 127 for code in name)


def parse_fmt(fmt: bytes, order: ByteOrder) -> WavFormat:
    """Read the body of a fmt chunk.

    The size of a sample follows from its number of bits, not from the block size; libsndfile does the same.

    Raises:
        AudioError: The chunk is damaged, or the samples have an unsupported encoding.
    """
    if not 16 <= len(fmt) <= MAX_FMT_BYTES:
        raise AudioError(f"cannot decode WAV: the header is damaged, its fmt chunk has {len(fmt)} bytes")

    def number(start: int, size: int) -> int:
        return int.from_bytes(fmt[start : start + size], order)

    tag, channels, rate, bits = number(0, 2), number(2, 2), number(4, 4), number(14, 2)
    if tag == _EXTENSIBLE and len(fmt) >= 28:
        # The GUID of the sub-format begins with the real tag in four bytes. In RIFX files sox writes only two bytes.
        tag = number(24, 2) or number(26, 2)
    if not rate or not channels:
        raise AudioError(f"cannot decode WAV: the header is damaged, it states {rate} Hz and {channels} channels")
    encoding = _encoding(tag, bits, order)
    if encoding is None:
        name = _NAMES.get(tag, f"format {tag}")
        raise AudioError(f"cannot decode WAV: {bits}-bit {name} samples are not supported. Use 16-bit PCM.")
    return WavFormat(encoding, rate, channels, number(12, 2) if tag in (_MS_ADPCM, _IMA_ADPCM, _GSM) else 0)


def _encoding(tag: int, bits: int, order: ByteOrder) -> str | None:
    suffix = "le" if order == "little" else "be"
    if tag == _PCM and bits:
        name = _INTEGERS.get((bits + 7) // 8)
        return name if name in (None, "u8") else f"{name}{suffix}"
    if tag == _FLOAT and bits in (32, 64):
        return f"f{bits}{suffix}"
    if tag in (_MS_ADPCM, _IMA_ADPCM) and bits == 4:
        return "ms_adpcm" if tag == _MS_ADPCM else "ima_adpcm"
    return {_ALAW: "alaw", _MULAW: "mulaw", _GSM: "gsm610"}.get(tag)

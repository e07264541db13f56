"""The size of ID3v2 tags, which precede the audio of mp3 streams and of some WAV files."""

from __future__ import annotations

HEADER_BYTES = 10
_HAS_FOOTER = 0x10


def tag_bytes(start: bytes | bytearray) -> int:
    """Return the size of the tag at the beginning of ``start`` (``HEADER_BYTES`` suffice); 0: there is no tag.

    The size field in the header (ID3v2.4, 3.1) has seven bits in each of its four bytes, and excludes the header.
    """
    if len(start) < HEADER_BYTES or start[:3] != b"ID3" or 0xFF in start[3:5] or max(start[6:10]) > 0x7F:
        return 0
    size = start[6] << 21 | start[7] << 14 | start[8] << 7 | start[9]
    return HEADER_BYTES + size + (HEADER_BYTES if start[5] & _HAS_FOOTER else 0)

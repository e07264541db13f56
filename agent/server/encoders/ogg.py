"""Writer of Ogg pages (RFC 3533)."""

from __future__ import annotations

import functools
import secrets
import struct

_FIRST_PAGE, _LAST_PAGE = 2, 4


class OggPageWriter:
    """Writes the pages of one logical stream. Not thread-safe; owned by its encoder. No packet spans two pages."""

    def __init__(self) -> None:
        self._serial = secrets.randbits(32)
        self._number = 0

    def page(self, packets: list[bytes], granule: int, is_last: bool = False) -> bytes:
        """Return a page with ``packets``; ``granule`` is the position in the stream after the last packet."""
        lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
        flags = (_FIRST_PAGE if self._number == 0 else 0) | (_LAST_PAGE if is_last else 0)
        head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, self._serial, self._number, 0)
        page = head + bytes([len(lacing)]) + lacing + b"".join(packets)
        self._number += 1
        return page[:22] + struct.pack("<I", checksum(page)) + page[26:]


def checksum(page: bytes) -> int:
    """Return the CRC of a page whose checksum field is zero: polynomial 0x04C11DB7, not reflected, not inverted."""
    table, crc = _table(), 0
    for byte in page:
        crc = (crc << 8) & 0xFFFFFFFF ^ table[crc >> 24 ^ byte]
    return crc


@functools.cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(crc)
    return tuple(table)

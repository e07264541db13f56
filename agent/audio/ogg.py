"""Packets out of an Ogg stream as soon as their bytes are there: RFC 3533, without waiting for a page to be complete.

Encoders make pages of up to a second; whoever waits for the page adds that second to every first word. So a page's
checksum, which can only be known at its end, is not looked at: the decoder behind has to bear damaged packets anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_MAGIC = b"OggS"
_FIXED_BYTES = 27
_LONGEST_PACKET = 1 << 16
"""Longer packets (pictures among the comments) are cut: no Opus packet comes near."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. ``granule`` is the page's position in samples (-1: none), reached with the page's ``last`` packet.

    ``first``: it stands on the page that opens a logical stream; ``closing``: on the page that ends it.
    """

    data: bytes = field(repr=False)
    serial: int
    granule: int
    first: bool
    closing: bool
    last: bool


class OggReader:
    """A stream of Ogg pages in pieces of any size. Junk between pages is skipped; memory stays below two pages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lengths: list[int] = []  # of the segments of the page that are still to come, the next one last
        self._partial: dict[int, bytearray] = {}  # packets that go on on the next page, by logical stream
        self._serial = self._granule = self._flags = 0
        self._lost = False  # the rest of a packet whose beginning is missing is passed over

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """The packets whose last byte is in ``chunk`` or before; to be read to its end before the next piece."""
        self._buffer += chunk
        while self._lengths or self._page():
            if not self._lengths:
                continue  # a page without a segment
            length = self._lengths[-1]
            if len(self._buffer) < length:
                return
            self._lengths.pop()
            packet = self._segment(length)
            if packet is not None:
                yield packet

    def _page(self) -> bool:
        """Reads the next page's header; ``False`` where its bytes are not all there yet."""
        buffer = self._buffer
        while True:
            start = buffer.find(_MAGIC)
            if start < 0:
                del buffer[: max(0, len(buffer) - len(_MAGIC) + 1)]
                return False
            del buffer[:start]
            if len(buffer) < _FIXED_BYTES or len(buffer) < _FIXED_BYTES + buffer[26]:
                return False
            if buffer[4] == 0 and buffer[5] < 8:
                break
            del buffer[: len(_MAGIC)]  # only looks like a page
        self._flags = buffer[5]
        self._granule = int.from_bytes(buffer[6:14], "little", signed=True)
        self._serial = int.from_bytes(buffer[14:18], "little")
        self._lengths = list(reversed(buffer[_FIXED_BYTES : _FIXED_BYTES + buffer[26]]))
        del buffer[: _FIXED_BYTES + buffer[26]]
        continued = bool(self._flags & 1)
        if not continued or self._flags & 2:
            self._partial.pop(self._serial, None)  # a page in between was lost
        self._lost = continued and self._serial not in self._partial
        return True

    def _segment(self, length: int) -> Packet | None:
        ends = length < 255
        if not self._lost:
            # A service has one logical stream; whoever opens more gets the oldest unfinished packets forgotten.
            if self._serial not in self._partial and len(self._partial) >= 4:
                self._partial.pop(next(iter(self._partial)))
            packet = self._partial.setdefault(self._serial, bytearray())
            packet += self._buffer[: min(length, _LONGEST_PACKET - len(packet))]
        del self._buffer[:length]
        if not ends:
            return None
        if self._lost:
            self._lost = False
            return None
        data = bytes(self._partial.pop(self._serial))
        last = not any(rest < 255 for rest in self._lengths)
        return Packet(data, self._serial, self._granule, bool(self._flags & 2), bool(self._flags & 4), last)

"""Ogg Opus (RFC 7845) to PCM, packet by packet, with Debian's libopus."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.audio.format import Format
from agent.errors import AudioError

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


_TICKS = 48000  # of a granule position, whatever rate is decoded to
_RATES = (8000, 12000, 16000, 24000, 48000)
_LONGEST_SECONDS = 0.12
_PATIENCE_BYTES = 1 << 17
"""So much without the head of an Opus stream is no Opus."""
_OPUS_SET_GAIN = 4034


class OpusDecoder:
    """Sound out of Ogg Opus in pieces of any size. Exactly as long as the stream says: pre-skip and end are trimmed.

    libopus decodes to ``rate`` by itself where that is 8, 12, 16, 24 or 48 kHz, otherwise to 48 kHz. Channels are those
    of the stream. Several streams in a row are heard one after the other. A damaged packet is bridged.
    """

    def __init__(self, rate: int) -> None:
        self.format: Format | None = None
        self._opus = _library()
        self._rate = rate if rate in _RATES else 48000
        self._reader = OggReader()
        self._came = 0
        self._serial: int | None = None
        self._state: ctypes.Array[ctypes.c_char] | None = None
        self._channels = 0
        self._tags = False  # the packet after the head has passed
        self._skip = 0  # frames at the beginning that nobody hears
        self._position: int | None = 0  # granule position decoded so far, of the stream that is being heard
        self._frames = 0  # length of the last packet, in frames

    def feed(self, chunk: bytes) -> bytes:
        """The sound that ``chunk`` completes. ``AudioError`` where the Ogg holds something else, or this is no Ogg."""
        self._came += len(chunk)
        out = [self._packet(packet) for packet in self._reader.feed(chunk)]
        if self._serial is None and self._came > _PATIENCE_BYTES:
            raise AudioError("Ogg Opus was expected, but none came: ask the service for another format")
        return b"".join(out)

    def finish(self) -> bytes:
        if self._came and self._serial is None:
            raise AudioError("Ogg Opus was expected, but none came: ask the service for another format")
        return b""

    def _packet(self, packet: Packet) -> bytes:
        if packet.first:
            self._head(packet)
            return b""
        if packet.serial != self._serial or self._state is None:
            return b""
        if not self._tags:
            self._tags = True
            return b""
        return self._sound(packet)

    def _head(self, packet: Packet) -> None:
        head = packet.data
        if not head.startswith(b"OpusHead"):
            for magic, kind in ((b"\x01vorbis", "Vorbis"), (b"\x7fFLAC", "FLAC"), (b"Speex   ", "Speex")):
                if head.startswith(magic):
                    raise AudioError(f"the Ogg holds {kind}, which cannot be decoded: use Opus, mp3 or wav")
            return
        if len(head) < 19 or head[8] & 0xF0 or head[9] not in (1, 2) or head[18] != 0:
            raise AudioError("the Opus stream has a damaged head, or more than two channels: use mono or stereo")
        # Any Opus stream can be decoded to mono or stereo: streams in a row all follow the first.
        self._channels = self._channels or head[9]
        state = ctypes.create_string_buffer(self._opus.opus_decoder_get_size(self._channels))
        if self._opus.opus_decoder_init(state, self._rate, self._channels) != 0:
            raise AudioError("libopus does not start: install the package libopus0 anew")
        gain = int.from_bytes(head[16:18], "little", signed=True)
        if gain:
            self._opus.opus_decoder_ctl(state, _OPUS_SET_GAIN, ctypes.c_int(gain))
        self._state, self._serial, self._tags = state, packet.serial, False
        self._skip = int.from_bytes(head[10:12], "little") * self._rate // _TICKS
        self._position, self._frames = 0, 0

    def _sound(self, packet: Packet) -> bytes:
        room = round(_LONGEST_SECONDS * self._rate)
        pcm = ctypes.create_string_buffer(room * 2 * self._channels)
        frames = self._opus.opus_decode(self._state, packet.data or None, len(packet.data), pcm, room, 0)
        if frames < 0 and self._frames:
            frames = self._opus.opus_decode(self._state, None, 0, pcm, self._frames, 0)
        if frames <= 0:
            return b""
        self._frames = frames
        keep = frames
        if self._position is not None:
            self._position += frames * _TICKS // self._rate
            if packet.closing and packet.granule >= 0:
                # The last page says where the sound ends, which is seldom where its last packet does.
                beyond = max(0, self._position - packet.granule) * self._rate // _TICKS
                keep = max(0, frames - beyond)
        if packet.last and packet.granule >= 0 and not packet.closing:
            self._position = packet.granule
        skipped = min(self._skip, keep)
        self._skip -= min(self._skip, frames)
        if keep > skipped:
            self.format = Format(self._rate, self._channels)
        size = 2 * self._channels
        return pcm.raw[skipped * size : keep * size]


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise AudioError("Opus cannot be decoded without libopus: install the package libopus0") from error
    library.opus_decode.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    library.opus_decoder_init.argtypes = [ctypes.c_char_p, ctypes.c_int32, ctypes.c_int]
    return library

"""Streaming Ogg Opus decoder (RFC 3533, RFC 7845) on libopus."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from agent.audio.convert import FormatConverter, to_mono
from agent.audio.format import Format
from agent.errors import AudioError
from agent.system.named_tuple import NamedTuple

_PAGE_MAGIC = b"OggS"
_PAGE_HEADER_BYTES = 27
_CONTINUED, _FIRST_PAGE, _LAST_PAGE = 1, 2, 4  # flags of a page
_MAX_STREAMS = 4
_MAX_PACKET_BYTES = 1 << 16
"""Longer packets (pictures in the comment header) are truncated; an Opus packet is always shorter."""

_GRANULE_RATE = 48000  # Hz, of granule positions and pre-skip, for every output rate (RFC 7845)
_RATES = (8000, 12000, 16000, 24000, 48000)
_MAX_PACKET_SECONDS = 0.12
_MAX_JUNK_BYTES = 1 << 17
"""A stream with more bytes than this before its Opus header is not Opus."""
_OPUS_SET_GAIN = 4034


def create(encoding: str, rate: int, channels: int) -> OpusDecoder:
    """Create a decoder for output at ``rate`` Hz; the stream states its own encoding and channels."""
    return OpusDecoder(rate)


class Packet(NamedTuple):
    """One packet of a logical stream. Immutable.

    ``granule``: granule position (samples at 48 kHz; -1: none) of the page on which the packet ends: the end of the
    last packet of that page. ``first``: the page begins the logical stream; ``closing``: the page ends the logical
    stream; ``is_last_on_page``: no other packet ends on the page after this one.
    """

    data: bytes
    serial: int
    granule: int
    first: bool
    closing: bool
    is_last_on_page: bool


class OggReader:
    """Splits a stream of Ogg pages into packets. Not thread-safe; one thread owns it.

    Input pieces may have any size. Junk between pages is skipped. Between two calls the reader keeps less than one
    page, and one incomplete packet of at most 64 KiB for each of at most four logical streams.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._segment_lengths: list[int] = []  # rest of the current page, in reverse order
        self._partial: dict[int, bytearray] = {}  # incomplete packets by logical stream
        self._serial = self._granule = self._flags = 0
        self._is_orphan = False  # the beginning of the current packet was lost: skip its rest

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """Yield the packets that ``chunk`` completes. Exhaust the iterator before the next call."""
        self._buffer += chunk
        while self._segment_lengths or self._read_page_header():
            if not self._segment_lengths:
                continue  # a page without a segment
            length = self._segment_lengths[-1]
            if len(self._buffer) < length:
                return
            self._segment_lengths.pop()
            packet = self._read_segment(length)
            if packet is not None:
                yield packet

    def _read_page_header(self) -> bool:
        """Read the next page header; return ``False`` while it is incomplete."""
        buffer = self._buffer
        while True:
            start = buffer.find(_PAGE_MAGIC)
            if start < 0:
                del buffer[: max(0, len(buffer) - len(_PAGE_MAGIC) + 1)]
                return False
            del buffer[:start]
            if len(buffer) < _PAGE_HEADER_BYTES or len(buffer) < _PAGE_HEADER_BYTES + buffer[26]:
                return False
            if buffer[4] == 0 and buffer[5] < 8:
                break
            del buffer[: len(_PAGE_MAGIC)]  # the magic bytes without a valid version and flags are not a page
        self._flags = buffer[5]
        self._granule = int.from_bytes(buffer[6:14], "little", signed=True)
        self._serial = int.from_bytes(buffer[14:18], "little")
        self._segment_lengths = list(reversed(buffer[_PAGE_HEADER_BYTES : _PAGE_HEADER_BYTES + buffer[26]]))
        del buffer[: _PAGE_HEADER_BYTES + buffer[26]]
        is_continued = bool(self._flags & _CONTINUED)
        if not is_continued or self._flags & _FIRST_PAGE:
            self._partial.pop(self._serial, None)  # the page with the rest of the packet was lost
        self._is_orphan = is_continued and self._serial not in self._partial
        return True

    def _read_segment(self, length: int) -> Packet | None:
        if not self._is_orphan:
            # A service sends one logical stream. With more, the oldest incomplete packet is dropped to bound memory.
            if self._serial not in self._partial and len(self._partial) >= _MAX_STREAMS:
                self._partial.pop(next(iter(self._partial)))
            packet = self._partial.setdefault(self._serial, bytearray())
            packet += self._buffer[: min(length, _MAX_PACKET_BYTES - len(packet))]
        del self._buffer[:length]
        if length == 255:  # the packet continues in the next segment
            return None
        if self._is_orphan:
            self._is_orphan = False
            return None
        data = bytes(self._partial.pop(self._serial))
        return Packet(
            data,
            self._serial,
            self._granule,
            first=bool(self._flags & _FIRST_PAGE),
            closing=bool(self._flags & _LAST_PAGE),
            is_last_on_page=not any(rest < 255 for rest in self._segment_lengths),
        )


class OpusDecoder:
    """Decodes Ogg Opus in pieces of any size. Not thread-safe; one thread owns it.

    The output has exactly the length that the stream states: the pre-skip and the audio after the stated end are
    removed. Its rate is ``rate`` if that is 8, 12, 16, 24 or 48 kHz, otherwise 48 kHz. Its channels are those of the
    stream; more than two channels are mixed to one. Consecutive streams are decoded one after the other and converted
    to the channels of the first. libopus conceals a damaged packet.
    """

    def __init__(self, rate: int) -> None:
        self.format: Format | None = None
        self._opus = _load_library()
        self._rate = rate if rate in _RATES else 48000
        self._reader = OggReader()
        self._received_bytes = 0
        self._serial: int | None = None
        self._state: ctypes.Array[ctypes.c_char] | None = None
        self._channels = 0  # of the current stream
        self._converter: FormatConverter | None = None
        self._has_tags = False  # the comment header, the second packet, was received
        self._skip_frames = 0  # rest of the pre-skip
        self._position: int | None = 0  # granule position of the end of the decoded audio
        self._packet_frames = 0  # length of the previous packet

    def feed(self, chunk: bytes) -> bytes:
        """Return the audio that ``chunk`` completes."""
        self._received_bytes += len(chunk)
        out = [self._decode(packet) for packet in self._reader.feed(chunk)]
        if self._serial is None and self._received_bytes > _MAX_JUNK_BYTES:
            raise _not_opus()
        return b"".join(out)

    def finish(self) -> bytes:
        """Return no audio, because none is buffered; raise ``AudioError`` if the stream contained data but no Opus."""
        if self._received_bytes and self._serial is None:
            raise _not_opus()
        return b""

    def _decode(self, packet: Packet) -> bytes:
        if packet.first:
            self._read_header(packet)
            return b""
        if packet.serial != self._serial or self._state is None:
            return b""
        if not self._has_tags:
            self._has_tags = True
            return b""
        return self._decode_audio(packet)

    def _read_header(self, packet: Packet) -> None:
        header = packet.data
        if not header.startswith(b"OpusHead"):
            for magic, codec in ((b"\x01vorbis", "Vorbis"), (b"\x7fFLAC", "FLAC"), (b"Speex   ", "Speex")):
                if header.startswith(magic):
                    raise AudioError(f"cannot decode Ogg {codec}: only Opus is supported. Use Opus, mp3 or wav.")
            return
        streams, coupled, mapping = _read_mapping(header)
        self._channels = header[9]
        state = ctypes.create_string_buffer(self._opus.opus_multistream_decoder_get_size(streams, coupled))
        if self._opus.opus_multistream_decoder_init(state, self._rate, self._channels, streams, coupled, mapping) != 0:
            raise AudioError("cannot decode Opus: the header is damaged. Use mono or stereo.")
        gain = int.from_bytes(header[16:18], "little", signed=True)
        if gain:
            self._opus.opus_multistream_decoder_ctl(state, _OPUS_SET_GAIN, ctypes.c_int(gain))
        self._state, self._serial, self._has_tags = state, packet.serial, False
        self._skip_frames = int.from_bytes(header[10:12], "little") * self._rate // _GRANULE_RATE
        self._position, self._packet_frames = 0, 0

    def _decode_audio(self, packet: Packet) -> bytes:
        capacity = round(_MAX_PACKET_SECONDS * self._rate)
        pcm = ctypes.create_string_buffer(capacity * 2 * self._channels)
        frames = self._opus.opus_multistream_decode(
            self._state, packet.data or None, len(packet.data), pcm, capacity, 0
        )
        if frames < 0 and self._packet_frames:
            # Packet loss concealment: no data, and the length of the previous packet (opus_multistream.h).
            frames = self._opus.opus_multistream_decode(self._state, None, 0, pcm, self._packet_frames, 0)
        if frames <= 0:
            return b""
        self._packet_frames = frames
        end = frames
        if self._position is not None:
            self._position += frames * _GRANULE_RATE // self._rate
            if packet.closing and packet.granule >= 0:
                # The granule position of the last page is the end of the audio, usually within its last packet.
                excess = max(0, self._position - packet.granule) * self._rate // _GRANULE_RATE
                end = max(0, frames - excess)
        if packet.is_last_on_page and packet.granule >= 0 and not packet.closing:
            self._position = packet.granule
        start = min(self._skip_frames, end)
        self._skip_frames -= min(self._skip_frames, frames)
        frame_bytes = 2 * self._channels
        return self._convert(pcm.raw[start * frame_bytes : end * frame_bytes]) if end > start else b""

    def _convert(self, pcm: bytes) -> bytes:
        """Convert ``pcm`` from the channels of the current stream to the format of the first stream."""
        if self._channels > 2:
            pcm = to_mono(pcm, self._channels)
        source = Format(self._rate, self._channels if self._channels <= 2 else 1)
        self.format = self.format or source
        if source == self.format:
            return pcm
        if self._converter is None or self._converter.source != source:
            self._converter = FormatConverter(source, self.format)
        return self._converter.feed(pcm)  # without a delay, because the rates are equal


def _read_mapping(header: bytes) -> tuple[int, int, bytes]:
    """Return streams, coupled streams and channel mapping of an Opus header (RFC 7845, 5.1.1)."""
    if len(header) >= 19 and not header[8] & 0xF0:
        channels, family = header[9], header[18]
        if family == 0 and channels in (1, 2):
            return 1, channels - 1, bytes(range(channels))
        if family == 1 and 1 <= channels <= 8 and len(header) >= 21 + channels:
            return header[19], header[20], header[21 : 21 + channels]
    raise AudioError(
        "cannot decode Opus: the header is damaged or states an unsupported channel mapping. Use mono or stereo."
    )


def _not_opus() -> AudioError:
    return AudioError("cannot decode Opus: Ogg Opus was expected, but the stream has none. Request another format.")


def _load_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise AudioError("cannot decode Opus: libopus is missing. Install the package libopus0.") from error
    library.opus_multistream_decode.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    library.opus_multistream_decoder_init.argtypes = [
        ctypes.c_char_p, ctypes.c_int32, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_char_p,
    ]  # fmt: skip
    return library

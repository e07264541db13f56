"""Ogg Opus (RFC 7845) to PCM, packet by packet, with Debian's libopus."""

from __future__ import annotations

import ctypes

from agent.audio.format import Format
from agent.audio.ogg import OggReader, Packet
from agent.errors import AudioError

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

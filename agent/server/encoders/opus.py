"""Ogg Opus through libopus: packets of 20 ms in small pages, so that a listener hears them early (RFC 6716, 7845)."""

from __future__ import annotations

import ctypes
import struct

from agent.errors import AudioError
from agent.server.encoders.ogg import Pages

_RATES = (8000, 12000, 16000, 24000, 48000)
_APPLICATION_AUDIO = 2049
_SET_BITRATE, _GET_LOOKAHEAD = 4002, 4027
_BITS_PER_SECOND = 32000
_PACKET_SECONDS = 0.02
_PACKETS_IN_PAGE = 5
_LARGEST_PACKET = 4000
_CLOCK = 48000  # granule positions always count samples of 48 kHz


class OggOpus:
    """A mono Ogg Opus stream, 32 kbit/s, a page for every 0.1 s.

    ``rate`` is the one asked for, or 48000 where Opus has it not. The decoder drops the encoder's delay (pre-skip) and
    what pads the last packet, so the stream lasts just as long as what went in. Raises ``AudioError`` where the
    library is missing.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate if rate in _RATES else _CLOCK
        self._opus = _library()
        error = ctypes.c_int()
        self._encoder: int | None = self._opus.opus_encoder_create(
            self.rate, 1, _APPLICATION_AUDIO, ctypes.byref(error)
        )
        if not self._encoder:
            raise AudioError(f"libopus refuses {self.rate} Hz (error {error.value})")
        self._control(_SET_BITRATE, ctypes.c_int(_BITS_PER_SECOND))
        lookahead = ctypes.c_int()
        self._control(_GET_LOOKAHEAD, ctypes.byref(lookahead))
        self._samples = round(self.rate * _PACKET_SECONDS)
        self._skip = lookahead.value * _CLOCK // self.rate
        self._pages = Pages()
        self._rest = b""
        self._heard = 0  # samples that went in
        self._encoded = 0  # samples in packets, padding included
        self._waiting: list[bytes] = []
        self._begun = False

    def feed(self, pcm: bytes) -> list[bytes]:
        if self._encoder is None:
            return []
        self._heard += len(pcm) // 2
        self._rest += pcm
        messages = self._head()
        size = self._samples * 2
        whole = len(self._rest) - len(self._rest) % size
        for at in range(0, whole, size):
            self._waiting.append(self._packet(self._rest[at : at + size]))
            if len(self._waiting) == _PACKETS_IN_PAGE:
                messages.append(self._page(self._encoded * _CLOCK // self.rate))
        self._rest = self._rest[whole:]
        return messages

    def finish(self) -> list[bytes]:
        """The last page; the encoder is given back, and a second ``finish`` gives nothing."""
        if self._encoder is None:
            return []
        messages = self._head()
        end = self._heard * _CLOCK // self.rate + self._skip
        # One more packet may be needed to carry what the encoder still holds back, and the last page needs one.
        while self._encoded * _CLOCK // self.rate < end or not self._waiting:
            if len(self._waiting) == _PACKETS_IN_PAGE:
                messages.append(self._page(self._encoded * _CLOCK // self.rate))
            self._waiting.append(self._packet(self._rest.ljust(self._samples * 2, b"\0")))
            self._rest = b""
        messages.append(self._page(end, last=True))
        self._opus.opus_encoder_destroy(self._encoder)
        self._encoder = None
        return messages

    def _head(self) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, self._skip, self.rate, 0, 0)
        tags = struct.pack("<8sI11sI", b"OpusTags", 11, b"voice-agent", 0)
        return [self._pages.page([head], 0) + self._pages.page([tags], 0)]

    def _packet(self, pcm: bytes) -> bytes:
        out = ctypes.create_string_buffer(_LARGEST_PACKET)
        size = self._opus.opus_encode(self._encoder, pcm, self._samples, out, _LARGEST_PACKET)
        if size < 0:
            raise AudioError(f"libopus failed with {size}")
        self._encoded += self._samples
        return out.raw[:size]

    def _page(self, granule: int, last: bool = False) -> bytes:
        packets, self._waiting = self._waiting, []
        return self._pages.page(packets, granule, last)

    def _control(self, request: int, value: object) -> None:
        # The function takes variable arguments; on some processors these travel elsewhere than fixed ones, so only
        # the fixed ones may have types declared.
        self._opus.opus_encoder_ctl(ctypes.c_void_p(self._encoder), ctypes.c_int(request), value)


def _library() -> ctypes.CDLL:
    try:
        opus = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise AudioError("opus needs libopus: install the package libopus0, or ask for wav") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    opus.opus_encoder_create.restype = pointer
    opus.opus_encoder_create.argtypes = [number, number, number, pointer]
    opus.opus_encode.argtypes = [pointer, ctypes.c_char_p, number, ctypes.c_char_p, number]
    opus.opus_encoder_destroy.argtypes = [pointer]
    return opus

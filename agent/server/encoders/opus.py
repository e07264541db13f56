"""Ogg Opus encoder that uses libopus, with 20 ms packets in small pages for low latency (RFC 6716, RFC 7845)."""

from __future__ import annotations

import ctypes
import struct

from agent.errors import AudioError
from agent.server.encoders.ogg import OggPageWriter

_RATES = (8000, 12000, 16000, 24000, 48000)
_APPLICATION_AUDIO = 2049
_SET_BITRATE, _GET_LOOKAHEAD = 4002, 4027
_BITS_PER_SECOND = 32000
_PACKET_SECONDS = 0.02
_PACKETS_PER_PAGE = 5
_MAX_PACKET_BYTES = 4000
_GRANULE_RATE = 48000  # granule positions count samples at 48 kHz (RFC 7845, 4)


class OpusEncoder:
    """Encodes mono Ogg Opus at 32 kbit/s, one page per 0.1 s. Not thread-safe; owned by the session's speaking thread.

    The decoder removes the encoder's delay (pre-skip) and the padding of the last packet, so that the stream is exactly
    as long as its input.

    Args:
        rate: Requested sample rate in Hz; 48000 replaces a rate that Opus does not support.

    Raises:
        AudioError: The library is missing or rejects the rate.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate if rate in _RATES else _GRANULE_RATE
        self._opus = _library()
        error = ctypes.c_int()
        self._encoder: int | None = self._opus.opus_encoder_create(
            self.rate, 1, _APPLICATION_AUDIO, ctypes.byref(error)
        )
        if not self._encoder:
            raise AudioError(f"libopus rejects {self.rate} Hz (error {error.value}): request another sample rate")
        self._control(_SET_BITRATE, ctypes.c_int(_BITS_PER_SECOND))
        lookahead = ctypes.c_int()
        self._control(_GET_LOOKAHEAD, ctypes.byref(lookahead))
        self._packet_samples = round(self.rate * _PACKET_SECONDS)
        self._pre_skip = lookahead.value * _GRANULE_RATE // self.rate
        self._pages = OggPageWriter()
        self._rest = b""
        self._input_samples = 0
        self._encoded_samples = 0  # including padding
        self._packets: list[bytes] = []
        self._has_head = False

    def feed(self, pcm: bytes) -> list[bytes]:
        if self._encoder is None:
            return []
        self._input_samples += len(pcm) // 2
        self._rest += pcm
        messages = self._head()
        size = self._packet_samples * 2
        whole = len(self._rest) - len(self._rest) % size
        for at in range(0, whole, size):
            self._packets.append(self._packet(self._rest[at : at + size]))
            if len(self._packets) == _PACKETS_PER_PAGE:
                messages.append(self._page(self._encoded_samples * _GRANULE_RATE // self.rate))
        self._rest = self._rest[whole:]
        return messages

    def finish(self) -> list[bytes]:
        """Return the last page and release the encoder. A second call returns no data."""
        if self._encoder is None:
            return []
        messages = self._head()
        end = self._input_samples * _GRANULE_RATE // self.rate + self._pre_skip
        # The encoder delays the audio, so another packet may carry its end. The last page needs at least one packet.
        while self._encoded_samples * _GRANULE_RATE // self.rate < end or not self._packets:
            if len(self._packets) == _PACKETS_PER_PAGE:
                messages.append(self._page(self._encoded_samples * _GRANULE_RATE // self.rate))
            self._packets.append(self._packet(self._rest.ljust(self._packet_samples * 2, b"\0")))
            self._rest = b""
        messages.append(self._page(end, is_last=True))
        self.close()
        return messages

    def close(self) -> None:
        """Release the encoder. Idempotent."""
        if self._encoder is not None:
            self._opus.opus_encoder_destroy(self._encoder)
            self._encoder = None

    def _head(self) -> list[bytes]:
        if self._has_head:
            return []
        self._has_head = True
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, self._pre_skip, self.rate, 0, 0)
        tags = struct.pack("<8sI11sI", b"OpusTags", 11, b"voice-agent", 0)
        return [self._pages.page([head], 0) + self._pages.page([tags], 0)]

    def _packet(self, pcm: bytes) -> bytes:
        out = ctypes.create_string_buffer(_MAX_PACKET_BYTES)
        size = self._opus.opus_encode(self._encoder, pcm, self._packet_samples, out, _MAX_PACKET_BYTES)
        if size < 0:
            raise AudioError(f"Opus encoding failed: libopus returned {size}. Request wav")
        self._encoded_samples += self._packet_samples
        return out.raw[:size]

    def _page(self, granule: int, is_last: bool = False) -> bytes:
        packets, self._packets = self._packets, []
        return self._pages.page(packets, granule, is_last)

    def _control(self, request: int, value: object) -> None:
        # opus_encoder_ctl() is variadic, and some ABIs pass variadic arguments differently from fixed ones. Do not set
        # argtypes, which would declare the arguments as fixed.
        self._opus.opus_encoder_ctl(ctypes.c_void_p(self._encoder), ctypes.c_int(request), value)


def _library() -> ctypes.CDLL:
    try:
        opus = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise AudioError("Opus needs libopus: install the package libopus0, or request wav") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    opus.opus_encoder_create.restype = pointer
    opus.opus_encoder_create.argtypes = [number, number, number, pointer]
    opus.opus_encode.argtypes = [pointer, ctypes.c_char_p, number, ctypes.c_char_p, number]
    opus.opus_encoder_destroy.argtypes = [pointer]
    return opus

"""MP3 encoder that uses libmp3lame."""

from __future__ import annotations

import ctypes

from agent.errors import AudioError

_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MONO = 3
_KILOBITS_PER_SECOND = 64
_VBR_OFF = 0


class Mp3Encoder:
    """Encodes mono MP3 at 64 kbit/s. Not thread-safe; owned by the session's speaking thread.

    The audio contains the encoder's delay, as in every MP3 without a tag.

    Args:
        rate: Requested sample rate in Hz. If MP3 does not support it, the next higher supported rate replaces it; the
            highest is 48000.

    Raises:
        AudioError: The library is missing, has no memory or rejects the rate.
    """

    def __init__(self, rate: int) -> None:
        self.rate = next((supported for supported in _RATES if supported >= rate), _RATES[-1])
        self._lame = _library()
        self._flags: int | None = self._lame.lame_init()
        if not self._flags:
            self._flags = None
            raise AudioError("libmp3lame cannot start another MP3 stream: out of memory. Reduce the number of clients")
        for name, value in (
            ("lame_set_in_samplerate", self.rate),
            ("lame_set_out_samplerate", self.rate),
            ("lame_set_num_channels", 1),
            ("lame_set_mode", _MONO),
            ("lame_set_VBR", _VBR_OFF),
            ("lame_set_brate", _KILOBITS_PER_SECOND),
            ("lame_set_bWriteVbrTag", 0),  # the tag needs the length, which is unknown in a stream
            ("lame_set_quality", 5),
        ):
            setter = getattr(self._lame, name)
            setter.argtypes = [ctypes.c_void_p, ctypes.c_int]
            setter(self._flags, value)
        if self._lame.lame_init_params(self._flags) < 0:
            self.close()
            raise AudioError(f"libmp3lame rejects {self.rate} Hz: request another sample rate")

    def feed(self, pcm: bytes) -> list[bytes]:
        if self._flags is None:
            return []
        samples = len(pcm) // 2
        capacity = samples * 5 // 4 + 7200  # worst case according to lame.h
        out = ctypes.create_string_buffer(capacity)
        size = self._lame.lame_encode_buffer(self._flags, pcm, pcm, samples, out, capacity)
        if size < 0:
            self.close()
            raise AudioError(f"MP3 encoding failed: libmp3lame returned {size}. Request wav")
        return [out.raw[:size]] if size else []

    def finish(self) -> list[bytes]:
        """Return the last MP3 frames and release the encoder. A second call returns no data."""
        if self._flags is None:
            return []
        out = ctypes.create_string_buffer(7200)
        size = self._lame.lame_encode_flush(self._flags, out, 7200)
        self.close()
        return [out.raw[:size]] if size > 0 else []

    def close(self) -> None:
        """Release the encoder. Idempotent."""
        if self._flags is not None:
            self._lame.lame_close(self._flags)
            self._flags = None


def _library() -> ctypes.CDLL:
    try:
        lame = ctypes.CDLL("libmp3lame.so.0")
    except OSError as error:
        raise AudioError("MP3 needs libmp3lame: install the package libmp3lame0, or request wav") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    lame.lame_init.restype = pointer
    lame.lame_init_params.argtypes = [pointer]
    lame.lame_encode_buffer.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, number, ctypes.c_char_p, number]
    lame.lame_encode_flush.argtypes = [pointer, ctypes.c_char_p, number]
    lame.lame_close.argtypes = [pointer]
    return lame

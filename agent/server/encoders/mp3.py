"""mp3 through libmp3lame, as a stream."""

from __future__ import annotations

import ctypes

from agent.errors import AudioError

_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MONO = 3
_KILOBITS = 64
_VBR_OFF = 0


class Mp3:
    """mp3, mono, 64 kbit/s. ``rate`` is the one asked for or, where mp3 has it not, the next one above.

    The encoder's own delay is in the sound, as in every mp3 without a tag. Raises ``AudioError`` where the library is
    missing.
    """

    def __init__(self, rate: int) -> None:
        self.rate = next((known for known in _RATES if known >= rate), _RATES[-1])
        self._lame = _library()
        self._flags: int | None = self._lame.lame_init()
        if not self._flags:
            self._flags = None
            raise AudioError("libmp3lame has no memory for another mp3 stream")
        for name, value in (
            ("lame_set_in_samplerate", self.rate),
            ("lame_set_out_samplerate", self.rate),
            ("lame_set_num_channels", 1),
            ("lame_set_mode", _MONO),
            ("lame_set_VBR", _VBR_OFF),
            ("lame_set_brate", _KILOBITS),
            ("lame_set_bWriteVbrTag", 0),  # a tag would have to be written once the length is known
            ("lame_set_quality", 5),
        ):
            setter = getattr(self._lame, name)
            setter.argtypes = [ctypes.c_void_p, ctypes.c_int]
            setter(self._flags, value)
        if self._lame.lame_init_params(self._flags) < 0:
            self._close()
            raise AudioError(f"libmp3lame refuses {self.rate} Hz")

    def feed(self, pcm: bytes) -> list[bytes]:
        if self._flags is None:
            return []
        samples = len(pcm) // 2
        room = samples * 5 // 4 + 7200  # the size lame.h asks for
        out = ctypes.create_string_buffer(room)
        size = self._lame.lame_encode_buffer(self._flags, pcm, pcm, samples, out, room)
        if size < 0:
            self._close()
            raise AudioError(f"libmp3lame failed with {size}")
        return [out.raw[:size]] if size else []

    def finish(self) -> list[bytes]:
        """The last frames; the encoder is given back, and a second ``finish`` gives nothing."""
        if self._flags is None:
            return []
        out = ctypes.create_string_buffer(7200)
        size = self._lame.lame_encode_flush(self._flags, out, 7200)
        self._close()
        return [out.raw[:size]] if size > 0 else []

    def _close(self) -> None:
        if self._flags is not None:
            self._lame.lame_close(self._flags)
            self._flags = None


def _library() -> ctypes.CDLL:
    try:
        lame = ctypes.CDLL("libmp3lame.so.0")
    except OSError as error:
        raise AudioError(
            "mp3 cannot be made without libmp3lame: install the package libmp3lame0, or ask for wav"
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    lame.lame_init.restype = pointer
    lame.lame_init_params.argtypes = [pointer]
    lame.lame_encode_buffer.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, number, ctypes.c_char_p, number]
    lame.lame_encode_flush.argtypes = [pointer, ctypes.c_char_p, number]
    lame.lame_close.argtypes = [pointer]
    return lame

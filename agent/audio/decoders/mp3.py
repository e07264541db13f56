"""Streaming mp3 decoder on libmpg123."""

from __future__ import annotations

import ctypes
import weakref

from agent.audio.format import Format
from agent.errors import AudioError

# Constants of mpg123.h: return codes, parameters, flags of MPG123_ADD_FLAGS, encodings.
_OK, _NEED_MORE, _NEW_FORMAT, _DONE = 0, -10, -11, -12
_ADD_FLAGS, _RESYNC_LIMIT = 2, 14
_QUIET, _GAPLESS, _IGNORE_STREAMLENGTH = 0x20, 0x40, 0x1000
_SIGNED_16, _MONO_AND_STEREO = 0xD0, 3
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OUT_BYTES = 1 << 15
_MAX_JUNK_BYTES = 1 << 17
"""A stream with more bytes than this before its first frame is not mp3. (An ID3 tag with a picture may be longer, but
services send none.)"""
_MAX_ERRORS = 64
_MAX_FOREIGN_SECONDS = 1.0


def create(encoding: str, rate: int, channels: int) -> Mp3Decoder:
    """Create a decoder. The arguments have no effect: an mp3 frame describes its own format."""
    return Mp3Decoder()


class Mp3Decoder:
    """Decodes mp3 in pieces of any size, from any position. Not thread-safe; one thread owns it.

    Tags and junk are skipped. ``format`` is the format of the first audio. Junk can look like a frame of another
    format, so such frames are skipped as well; more than ``_MAX_FOREIGN_SECONDS`` of them are an error.
    """

    def __init__(self) -> None:
        self.format: Format | None = None
        self._mpg123 = _load_library()
        # Required before libmpg123 1.27, without effect since.
        self._mpg123.mpg123_init()
        self._handle = self._mpg123.mpg123_new(None, None)
        if not self._handle:
            raise AudioError("cannot decode mp3: libmpg123 does not start. Reinstall the package libmpg123-0.")
        # Freed with the object: an utterance may be cancelled at any moment, without a call of finish().
        weakref.finalize(self, self._mpg123.mpg123_delete, self._handle).atexit = False
        # A Xing header or TLEN tag states a length, but services send the stream while they generate it.
        self._mpg123.mpg123_param(self._handle, _ADD_FLAGS, _QUIET | _GAPLESS | _IGNORE_STREAMLENGTH, 0.0)
        # By default libmpg123 fails permanently after 1024 bytes of junk; -1 resynchronizes without a limit.
        self._mpg123.mpg123_param(self._handle, _RESYNC_LIMIT, -1, 0.0)
        # Allow only s16, at each native rate: no other encoding and no resampling inside the library.
        self._mpg123.mpg123_format_none(self._handle)
        for rate in _RATES:
            self._mpg123.mpg123_format(self._handle, rate, _MONO_AND_STEREO, _SIGNED_16)
        self._mpg123.mpg123_open_feed(self._handle)
        self._received_bytes = 0
        self._current_format: Format | None = None  # of the frames that are being decoded
        self._foreign_seconds = 0.0
        self._out = ctypes.create_string_buffer(_OUT_BYTES)

    def feed(self, chunk: bytes) -> bytes:
        """Return the audio that ``chunk`` completes."""
        if not chunk:
            return b""
        self._received_bytes += len(chunk)
        self._mpg123.mpg123_feed(self._handle, chunk, len(chunk))
        pcm = self._read()
        if self.format is None and self._received_bytes > _MAX_JUNK_BYTES:
            raise _not_mp3()
        return pcm

    def finish(self) -> bytes:
        """Return no audio, because none is buffered; raise ``AudioError`` if the stream contained data but no mp3."""
        if self._received_bytes and self.format is None:
            raise _not_mp3()
        return b""

    def _read(self) -> bytes:
        out = []
        size = ctypes.c_size_t()
        errors = 0
        while errors < _MAX_ERRORS:
            result = self._mpg123.mpg123_read(self._handle, self._out, _OUT_BYTES, ctypes.byref(size))
            if self._current_format == self.format:
                out.append(self._out.raw[: size.value])
            elif self._current_format is not None:
                self._skip_foreign(self._current_format.seconds_of(size.value))
            if result == _NEW_FORMAT:
                self._update_format()
            elif result in (_NEED_MORE, _DONE):
                break
            elif result != _OK:
                errors += 1  # a damaged frame: the next one may be intact
            elif not size.value:
                break
        return b"".join(out)

    def _update_format(self) -> None:
        rate, channels, encoding = ctypes.c_long(), ctypes.c_int(), ctypes.c_int()
        self._mpg123.mpg123_getformat(self._handle, ctypes.byref(rate), ctypes.byref(channels), ctypes.byref(encoding))
        self._current_format = Format(rate.value, channels.value)
        self.format = self.format or self._current_format

    def _skip_foreign(self, seconds: float) -> None:
        self._foreign_seconds += seconds
        if self._foreign_seconds > _MAX_FOREIGN_SECONDS:
            raise AudioError(
                f"cannot decode mp3: the stream changes from {self.format} to {self._current_format}. "
                "Configure a service that keeps one format."
            )


def _not_mp3() -> AudioError:
    return AudioError("cannot decode mp3: mp3 was expected, but the stream has none. Request another format.")


def _load_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libmpg123.so.0")
    except OSError as error:
        raise AudioError("cannot decode mp3: libmpg123 is missing. Install the package libmpg123-0.") from error
    handle, pointer = ctypes.c_void_p, ctypes.POINTER
    library.mpg123_new.restype = handle
    library.mpg123_new.argtypes = [ctypes.c_char_p, pointer(ctypes.c_int)]
    library.mpg123_delete.argtypes = [handle]
    library.mpg123_param.argtypes = [handle, ctypes.c_int, ctypes.c_long, ctypes.c_double]
    library.mpg123_format_none.argtypes = [handle]
    library.mpg123_format.argtypes = [handle, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    library.mpg123_open_feed.argtypes = [handle]
    library.mpg123_feed.argtypes = [handle, ctypes.c_char_p, ctypes.c_size_t]
    library.mpg123_read.argtypes = [handle, ctypes.c_char_p, ctypes.c_size_t, pointer(ctypes.c_size_t)]
    library.mpg123_getformat.argtypes = [handle, pointer(ctypes.c_long), pointer(ctypes.c_int), pointer(ctypes.c_int)]
    return library

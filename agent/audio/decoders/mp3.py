"""mp3 to PCM as it arrives, with Debian's libmpg123."""

from __future__ import annotations

import ctypes
import weakref

from agent.audio.format import Format
from agent.errors import AudioError

_OK, _NEED_MORE, _NEW_FORMAT, _DONE = 0, -10, -11, -12
_ADD_FLAGS, _RESYNC_LIMIT = 2, 14
_QUIET, _GAPLESS, _IGNORE_STREAMLENGTH = 0x20, 0x40, 0x1000
_SIGNED_16, _MONO_AND_STEREO = 0xD0, 3
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OUT_BYTES = 1 << 15
_PATIENCE_BYTES = 1 << 17
"""So much without a single frame is no mp3 (a picture in an ID3 tag may come first, but services send none)."""
_MOST_ERRORS = 64
_FOREIGN_SECONDS = 1.0


class Mp3Decoder:
    """Sound out of mp3 in pieces of any size, beginning anywhere; tags and junk are passed over.

    ``format`` is that of the first sound. Junk can look like a frame of another format: such frames are passed over,
    but a second of them is an ``AudioError``, as is a stream without any mp3.
    """

    def __init__(self) -> None:
        self.format: Format | None = None
        self._mpg123 = _library()
        self._mpg123.mpg123_init()
        self._handle = self._mpg123.mpg123_new(None, None)
        if not self._handle:
            raise AudioError("libmpg123 does not start: install the package libmpg123-0 anew")
        # An utterance may be cut at any moment, and then nobody calls finish(): the handle goes with the object.
        weakref.finalize(self, self._mpg123.mpg123_delete, self._handle).atexit = False
        self._mpg123.mpg123_param(self._handle, _ADD_FLAGS, _QUIET | _GAPLESS | _IGNORE_STREAMLENGTH, 0.0)
        self._mpg123.mpg123_param(self._handle, _RESYNC_LIMIT, -1, 0.0)
        self._mpg123.mpg123_format_none(self._handle)
        for rate in _RATES:
            self._mpg123.mpg123_format(self._handle, rate, _MONO_AND_STEREO, _SIGNED_16)
        self._mpg123.mpg123_open_feed(self._handle)
        self._came = 0
        self._now: Format | None = None  # of the frames that come now
        self._foreign_seconds = 0.0
        self._out = ctypes.create_string_buffer(_OUT_BYTES)

    def feed(self, chunk: bytes) -> bytes:
        """The sound that ``chunk`` completes."""
        if not chunk:
            return b""
        self._came += len(chunk)
        self._mpg123.mpg123_feed(self._handle, chunk, len(chunk))
        pcm = self._read()
        if self.format is None and self._came > _PATIENCE_BYTES:
            raise AudioError("mp3 was expected, but none came: ask the service for another format")
        return pcm

    def finish(self) -> bytes:
        """Nothing is held back; ``AudioError`` if data came and none of it was mp3."""
        if self._came and self.format is None:
            raise AudioError("mp3 was expected, but none came: ask the service for another format")
        return b""

    def _read(self) -> bytes:
        out = []
        got = ctypes.c_size_t()
        errors = 0
        while errors < _MOST_ERRORS:
            result = self._mpg123.mpg123_read(self._handle, self._out, _OUT_BYTES, ctypes.byref(got))
            if self._now == self.format:
                out.append(self._out.raw[: got.value])
            elif self._now is not None:
                self._pass_over(self._now.seconds_of(got.value))
            if result == _NEW_FORMAT:
                self._new_format()
            elif result in (_NEED_MORE, _DONE):
                break
            elif result != _OK:
                errors += 1  # a damaged frame: the next one may be sound
            elif not got.value:
                break
        return b"".join(out)

    def _new_format(self) -> None:
        rate, channels, encoding = ctypes.c_long(), ctypes.c_int(), ctypes.c_int()
        self._mpg123.mpg123_getformat(self._handle, ctypes.byref(rate), ctypes.byref(channels), ctypes.byref(encoding))
        self._now = Format(rate.value, channels.value)
        self.format = self.format or self._now

    def _pass_over(self, seconds: float) -> None:
        self._foreign_seconds += seconds
        if self._foreign_seconds > _FOREIGN_SECONDS:
            raise AudioError(f"the mp3 changes from {self.format} to {self._now} in the middle: one format is expected")


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libmpg123.so.0")
    except OSError as error:
        raise AudioError("mp3 cannot be decoded without libmpg123: install the package libmpg123-0") from error
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

"""Streaming mp3 decoder on libmpg123."""

from __future__ import annotations

import ctypes
import weakref

from agent.audio.convert import FormatConverter
from agent.audio.decoders.id3 import HEADER_BYTES, tag_bytes
from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError

# Constants of mpg123.h: return codes, parameters, flags of MPG123_ADD_FLAGS, encodings.
_OK, _NEED_MORE, _NEW_FORMAT, _DONE = 0, -10, -11, -12
_ADD_FLAGS, _RESYNC_LIMIT = 2, 14
_QUIET, _GAPLESS, _IGNORE_STREAMLENGTH = 0x20, 0x40, 0x1000
_SIGNED_16, _MONO_AND_STEREO = 0xD0, 3
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OUT_BYTES = 1 << 15
_MAX_JUNK_BYTES = 1 << 17
"""A stream with more bytes than this before its first frame is not mp3; ID3 tags do not count."""
_MAX_ERRORS = 64
_FRAME_SAMPLES = 1152
"""Maximum number of samples of a frame in each channel."""


def create(encoding: str, rate: int, channels: int) -> Mp3Decoder:
    """Create a decoder. The arguments have no effect: an mp3 frame describes its own format."""
    return Mp3Decoder()


class Mp3Decoder:
    """Decodes mp3 in pieces of any size. The stream may begin within a frame. Not thread-safe; one thread owns it.

    Tags and junk are skipped. ``format`` is the format of the first audio; audio in another format is converted to it.
    Junk can look like a frame of another format. Therefore a new format is accepted only after more than two
    consecutive frames, or after more than one frame at the end of the stream.
    """

    def __init__(self) -> None:
        self.format: Format | None = None
        self._mpg123 = _load_library()
        # Required before libmpg123 1.27; no effect in later versions.
        self._mpg123.mpg123_init()
        self._handle = self._mpg123.mpg123_new(None, None)
        if not self._handle:
            raise AudioError("cannot decode mp3: libmpg123 does not start. Reinstall the package libmpg123-0.")
        # The handle is freed with the object: an utterance may be canceled at any time, without a call of finish().
        weakref.finalize(self, self._mpg123.mpg123_delete, self._handle).atexit = False
        # The length in a Xing header or TLEN tag may be wrong: services send the stream while they generate it.
        self._mpg123.mpg123_param(self._handle, _ADD_FLAGS, _QUIET | _GAPLESS | _IGNORE_STREAMLENGTH, 0.0)
        # By default libmpg123 fails permanently after 1024 bytes of junk; -1 resynchronizes without a limit.
        self._mpg123.mpg123_param(self._handle, _RESYNC_LIMIT, -1, 0.0)
        # Allow only s16, at each native rate: no other encoding and no resampling inside the library.
        self._mpg123.mpg123_format_none(self._handle)
        for rate in _RATES:
            self._mpg123.mpg123_format(self._handle, rate, _MONO_AND_STEREO, _SIGNED_16)
        self._mpg123.mpg123_open_feed(self._handle)
        self._has_data = False
        self._received_bytes = 0  # without the ID3 tags at the start
        self._head = bytearray()  # bytes at the start or after a tag, too few to recognize the next tag
        self._tag_bytes = 0  # rest of the tag that is being skipped
        self._is_past_tags = False
        self._current_format: Format | None = None  # of the frames that are being decoded
        self._accepted_format: Format | None = None  # of the frames that were returned last
        self._pending = bytearray()  # audio of a new format that is not accepted yet
        self._pending_format: Format | None = None
        self._converter: FormatConverter | None = None
        self._out = ctypes.create_string_buffer(_OUT_BYTES)

    def feed(self, chunk: bytes) -> bytes:
        """Return the audio that ``chunk`` completes."""
        self._has_data = self._has_data or bool(chunk)
        chunk = self._skip_tags(chunk) if not self._is_past_tags else chunk
        if not chunk:
            return b""
        self._received_bytes += len(chunk)
        self._mpg123.mpg123_feed(self._handle, chunk, len(chunk))
        pcm = self._read()
        if self.format is None and self._received_bytes > _MAX_JUNK_BYTES:
            raise _not_mp3()
        return pcm

    def finish(self) -> bytes:
        """Return the rest; raise ``AudioError`` if the stream contained data but no mp3."""
        if self._has_data and self.format is None:
            raise _not_mp3()
        pcm = b""
        if self._pending_format and len(self._pending) > _FRAME_SAMPLES * SAMPLE_BYTES * self._pending_format.channels:
            pcm = self._accept_pending()
        return pcm if self._converter is None else pcm + self._converter.finish()

    def _skip_tags(self, chunk: bytes) -> bytes:
        """Return ``chunk`` without the ID3 tags at the start of the stream.

        libmpg123 skips tags as well, but it keeps them in memory until they are complete.
        """
        self._head += chunk
        while True:
            skipped = min(self._tag_bytes, len(self._head))
            del self._head[:skipped]
            self._tag_bytes -= skipped
            if self._tag_bytes or (len(self._head) < HEADER_BYTES and b"ID3".startswith(self._head[:3])):
                return b""
            self._tag_bytes = tag_bytes(self._head)
            if not self._tag_bytes:
                self._is_past_tags = True
                head, self._head = bytes(self._head), bytearray()
                return head

    def _read(self) -> bytes:
        out = []
        size = ctypes.c_size_t()
        errors = 0
        while errors < _MAX_ERRORS:
            result = self._mpg123.mpg123_read(self._handle, self._out, _OUT_BYTES, ctypes.byref(size))
            if size.value:
                out.append(self._accept(self._out.raw[: size.value]))
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
        if self.format is None:
            self.format = self._accepted_format = self._current_format

    def _accept(self, pcm: bytes) -> bytes:
        """Return the accepted audio: ``pcm``, all pending audio if its format is accepted now, or nothing yet."""
        if self._current_format == self._accepted_format:
            self._pending.clear()  # frames of another format in between were junk
            return pcm if self._converter is None else self._converter.feed(pcm)
        if self._current_format != self._pending_format:
            self._pending.clear()
            self._pending_format = self._current_format
        self._pending += pcm
        assert self._pending_format is not None
        if len(self._pending) <= 2 * _FRAME_SAMPLES * SAMPLE_BYTES * self._pending_format.channels:
            return b""
        return self._accept_pending()

    def _accept_pending(self) -> bytes:
        assert self._pending_format is not None and self.format is not None
        rest = b"" if self._converter is None else self._converter.finish()
        self._accepted_format, pcm = self._pending_format, bytes(self._pending)
        self._pending.clear()
        is_same = self._accepted_format == self.format
        self._converter = None if is_same else FormatConverter(self._accepted_format, self.format)
        return rest + (pcm if self._converter is None else self._converter.feed(pcm))


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

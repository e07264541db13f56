"""Uncompressed sound as it arrives in pieces: bare samples, WAV, and every mixture of the two that services send."""

from __future__ import annotations

from agent.audio.convert import SAMPLE_WIDTHS, to_s16le
from agent.audio.decoders.sniff import is_uncompressed
from agent.audio.format import Format
from agent.errors import AudioError

_HEADER_BYTES = 12  # RIFF, size, WAVE
_PLACEHOLDER = 0x7FFF_0000
"""A size of this or more is no size: writers that cannot know it yet put 0xFFFFFFFF, 4294967040 or 0x7FFFFFFF."""
_LARGEST_FMT = 1 << 12
_ENCODINGS = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (6, 8): "alaw", (7, 8): "mulaw"}
# Chunks known to follow the samples; where the RIFF size is a placeholder, only their names tell them from samples.
_TRAILERS = (b"LIST", b"fact", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"bext", b"JUNK", b"junk", b"PAD ", b"PEAK", b"iXML")


class PcmDecoder:
    """Samples out of a stream of pieces, as s16le in whole frames; every WAV header on the way is taken off, not heard.

    A header is recognised at the start of the stream, at the start of every later piece, and where the size in the one
    before says that its sound is over; so messages are to be fed one by one, as they came. A stream without any header
    is heard in the format that was asked for; a header outranks that. Size 0 or a placeholder means: until the end.
    """

    def __init__(self, samples: str, rate: int, channels: int) -> None:
        if samples not in SAMPLE_WIDTHS:
            raise AudioError(f"samples in {samples!r} cannot be decoded: use s16le, mulaw or alaw")
        self.format: Format | None = None
        self._asked = Format(rate, channels)
        self._samples = samples
        self._buffer = bytearray()
        self._half = bytearray()  # the beginning of a frame whose rest is still to come
        self._before: bytes | None = None  # what came before bytes that may be a header; None: they are none
        self._chunks = False  # between a header's RIFF and its samples
        self._described = False  # its fmt chunk has been read
        self._skip = 0  # bytes nobody hears
        self._sound: int | None = None  # bytes of samples still to come; None: until the stream ends
        self._file: int | None = None  # bytes of the WAV file still to come; None: unknown
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        """The sound that ``chunk`` completes. ``AudioError`` where it is compressed, or in samples nobody can play."""
        if not chunk:
            return b""
        if self._before is None and not self._chunks and _may_be_header(chunk):
            self._before = bytes(self._buffer)
            self._buffer.clear()
        self._buffer += chunk
        out = bytearray()
        while self._step(out):
            pass
        return bytes(out)

    def finish(self) -> bytes:
        """What was held back because it might have become something else; a header that broke off is not heard."""
        if self._before is not None and len(self._buffer) < 4:
            self._buffer[:0], self._before = self._before, None
        return b"" if self._before is not None or self._chunks or self._skip else self._take()

    def _step(self, out: bytearray) -> bool:
        """One step through the buffer; tells whether another one may follow. Each takes bytes off or changes state."""
        if self._before is not None:
            return self._riff()
        if self._skip:
            self._drop(min(self._skip, len(self._buffer)), skipped=True)
            return bool(self._buffer)
        if self._chunks:
            return self._chunk()
        if self._sound == 0:
            return self._after()
        if not self._begun:
            self._begun = is_uncompressed(self._buffer)
            if not self._begun:
                return False
        out += self._take()
        return self._sound == 0 and bool(self._buffer)

    def _take(self) -> bytes:
        frame = SAMPLE_WIDTHS[self._samples] * (self.format or self._asked).channels
        taken = len(self._buffer) if self._sound is None else min(self._sound, len(self._buffer))
        data = self._half + self._buffer[:taken]
        whole = len(data) // frame * frame
        # Kept also over a header: services cut their sound anywhere and put a header before each piece of it.
        self._half = data[whole:]
        pcm = to_s16le(bytes(data[:whole]), self._samples)
        self._drop(taken)
        if self._sound is not None:
            self._sound -= taken
        if pcm:
            self.format = self.format or self._asked
        return pcm

    def _drop(self, amount: int, skipped: bool = False) -> None:
        del self._buffer[:amount]
        if self._file is not None:
            self._file = max(0, self._file - amount)
        if skipped:
            self._skip -= amount

    def _riff(self) -> bool:
        """The start of a header, or of samples that only look like one."""
        buffer = self._buffer
        if not _may_be_header(buffer):
            buffer[:0], self._before = self._before or b"", None
            return True
        if len(buffer) < _HEADER_BYTES:
            return False
        size = int.from_bytes(buffer[4:8], "little")
        self._file = None if size == 0 or size >= _PLACEHOLDER else size + 8
        self._drop(_HEADER_BYTES)
        self._half += self._before or b""
        self._before, self._chunks, self._described, self._begun, self._skip = None, True, False, True, 0
        return True

    def _chunk(self) -> bool:
        """One chunk of a header, up to the samples."""
        buffer = self._buffer
        if len(buffer) < 8:
            return False
        name, size = bytes(buffer[:4]), int.from_bytes(buffer[4:8], "little")
        if name == b"data":
            if not self._described:
                raise AudioError("a WAV header has no fmt chunk before its data: the sound is damaged")
            self._drop(8)
            self._sound = None if size == 0 or size >= _PLACEHOLDER else size
            self._chunks = False
            return bool(buffer)
        if name == b"fmt ":
            if not 16 <= size <= _LARGEST_FMT:
                raise AudioError(f"a WAV header is damaged: its fmt chunk has {size} bytes")
            if len(buffer) < 8 + size:
                return False
            self._describe(bytes(buffer[8 : 8 + size]))
        elif not all(32 <= code < 127 for code in name):
            raise AudioError(f"a WAV header is damaged: it has a chunk called {name!r}")
        self._skip = 8 + size + size % 2
        return True

    def _after(self) -> bool:
        """The size in a header has been used up: the rest of that file, the next one, or sound it did not count."""
        if self._file:
            self._skip, self._file = self._file, 0
            return True
        self._file = None
        start = bytes(self._buffer[:4])
        if any(name.startswith(start) and name != start for name in (b"RIFF", *_TRAILERS)):
            return False  # too short to tell
        if _may_be_header(self._buffer):
            self._before = b""
        elif start in _TRAILERS:
            if len(self._buffer) < 8:
                return False
            size = int.from_bytes(self._buffer[4:8], "little")
            self._skip = 8 + size + size % 2
            return True
        self._sound = None  # a header that counted only the first piece
        return True

    def _describe(self, fmt: bytes) -> None:
        tag, channels = int.from_bytes(fmt[0:2], "little"), int.from_bytes(fmt[2:4], "little")
        rate, bits = int.from_bytes(fmt[4:8], "little"), int.from_bytes(fmt[14:16], "little")
        if tag == 0xFFFE and len(fmt) >= 26:  # extensible: the real tag opens the sub-format's GUID
            tag = int.from_bytes(fmt[24:26], "little")
        if (tag, bits) not in _ENCODINGS:
            kind = {1: "integer", 3: "floating point", 17: "ADPCM", 85: "mp3"}.get(tag, f"format {tag}")
            raise AudioError(f"the WAV holds {bits}-bit {kind} samples, which cannot be played: use 16-bit PCM")
        format = Format(rate, channels)
        if self.format is not None and format != self.format:
            raise AudioError(f"the sound changes from {self.format} to {format} in the middle: one format is expected")
        if _ENCODINGS[tag, bits] != self._samples:
            self._half.clear()  # the other half can no longer come
        self._asked, self._samples, self._described = format, _ENCODINGS[tag, bits], True


def _may_be_header(data: bytes | bytearray) -> bool:
    if len(data) >= _HEADER_BYTES:
        return data[:4] == b"RIFF" and data[8:12] == b"WAVE"
    return b"RIFF".startswith(bytes(data[:4])) and b"WAVE".startswith(bytes(data[8:12]))

"""Streaming decoder of uncompressed audio: raw samples, WAV, and the mixtures of both that services send."""

from __future__ import annotations

from agent.audio.convert import SAMPLE_WIDTHS, to_s16le
from agent.audio.decoders.sniff import is_uncompressed
from agent.audio.format import Format
from agent.errors import AudioError

_HEADER_BYTES = 12  # RIFF, size, WAVE
_UNKNOWN_SIZE = 0x7FFF_0000
"""A chunk size of this or more is unknown: encoders of live streams write 0xFFFFFFFF, 4294967040 or 0x7FFFFFFF."""
_MAX_FMT_BYTES = 1 << 12
_EXTENSIBLE = 0xFFFE
_ENCODINGS = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (6, 8): "alaw", (7, 8): "mulaw"}
# Chunks that may follow the samples. If the RIFF size is unknown, only their names distinguish them from samples.
_TRAILERS = (b"LIST", b"fact", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"bext", b"JUNK", b"junk", b"PAD ", b"PEAK", b"iXML")


def create(encoding: str, rate: int, channels: int) -> PcmDecoder:
    """Create a decoder; the arguments apply to streams without a header."""
    return PcmDecoder(encoding, rate, channels)


class PcmDecoder:
    """Decodes raw samples and WAV to whole frames of s16le, without headers. Not thread-safe; one thread owns it.

    The decoder recognizes a header at the start of the stream, at the start of every later piece, and after the end of
    the data chunk before. Therefore the caller feeds the service's messages one by one. A header takes precedence over
    the requested format. Size 0 or an unknown size means: until the end of the stream.
    """

    def __init__(self, encoding: str, rate: int, channels: int) -> None:
        if encoding not in SAMPLE_WIDTHS:
            raise AudioError(f"cannot decode samples in {encoding!r}: unknown encoding. Use s16le, mulaw or alaw.")
        self.format: Format | None = None
        self._requested = Format(rate, channels)
        self._encoding = encoding
        self._buffer = bytearray()
        self._partial_frame = bytearray()
        # Bytes that precede a possible header in the buffer; None: the buffer starts with no such header.
        self._before_header: bytes | None = None
        self._in_header = False  # between RIFF and the samples
        self._has_fmt = False  # the fmt chunk of this header was read
        self._skip_bytes = 0
        self._data_bytes: int | None = None  # rest of the data chunk; None: until the stream ends
        self._file_bytes: int | None = None  # rest of the RIFF file; None: unknown
        self._is_checked = False  # the stream is not compressed

    def feed(self, chunk: bytes) -> bytes:
        """Return the audio that ``chunk`` completes.

        Raises:
            AudioError: If the stream is compressed, its header is damaged, or its samples have an unsupported encoding.
        """
        if not chunk:
            return b""
        if self._before_header is None and not self._in_header and _may_be_header(chunk):
            self._before_header = bytes(self._buffer)
            self._buffer.clear()
        self._buffer += chunk
        out = bytearray()
        while self._step(out):
            pass
        return bytes(out)

    def finish(self) -> bytes:
        """Return the audio that was held back as a possible header; an incomplete header is dropped."""
        if self._before_header is not None and len(self._buffer) < 4:
            self._buffer[:0], self._before_header = self._before_header, None
        return b"" if self._before_header is not None or self._in_header or self._skip_bytes else self._take_samples()

    def _step(self, out: bytearray) -> bool:
        """Consume bytes or change the state; return whether another step may follow."""
        if self._before_header is not None:
            return self._read_riff()
        if self._skip_bytes:
            self._consume(min(self._skip_bytes, len(self._buffer)), is_skipped=True)
            return bool(self._buffer)
        if self._in_header:
            return self._read_chunk()
        if self._data_bytes == 0:
            return self._end_data()
        if not self._is_checked:
            self._is_checked = is_uncompressed(self._buffer)
            if not self._is_checked:
                return False
        out += self._take_samples()
        return self._data_bytes == 0 and bool(self._buffer)

    def _take_samples(self) -> bytes:
        frame_bytes = SAMPLE_WIDTHS[self._encoding] * (self.format or self._requested).channels
        size = len(self._buffer) if self._data_bytes is None else min(self._data_bytes, len(self._buffer))
        data = self._partial_frame + self._buffer[:size]
        whole = len(data) // frame_bytes * frame_bytes
        # Kept across a header: services split their audio at any byte and put a header before each piece.
        self._partial_frame = data[whole:]
        pcm = to_s16le(bytes(data[:whole]), self._encoding)
        self._consume(size)
        if self._data_bytes is not None:
            self._data_bytes -= size
        if pcm:
            self.format = self.format or self._requested
        return pcm

    def _consume(self, size: int, is_skipped: bool = False) -> None:
        del self._buffer[:size]
        if self._file_bytes is not None:
            self._file_bytes = max(0, self._file_bytes - size)
        if is_skipped:
            self._skip_bytes -= size

    def _read_riff(self) -> bool:
        """Read the start of a header, or detect that it is not one."""
        buffer = self._buffer
        if not _may_be_header(buffer):
            buffer[:0], self._before_header = self._before_header or b"", None
            return True
        if len(buffer) < _HEADER_BYTES:
            return False
        size = int.from_bytes(buffer[4:8], "little")
        self._file_bytes = None if size == 0 or size >= _UNKNOWN_SIZE else size + 8
        self._consume(_HEADER_BYTES)
        self._partial_frame += self._before_header or b""
        self._before_header, self._in_header, self._has_fmt = None, True, False
        self._is_checked, self._skip_bytes = True, 0
        return True

    def _read_chunk(self) -> bool:
        """Read one chunk of a header, up to the samples."""
        buffer = self._buffer
        if len(buffer) < 8:
            return False
        name, size = bytes(buffer[:4]), int.from_bytes(buffer[4:8], "little")
        if name == b"data":
            if not self._has_fmt:
                raise AudioError(
                    "cannot decode WAV: the header has no fmt chunk before its data. The audio is damaged."
                )
            self._consume(8)
            self._data_bytes = None if size == 0 or size >= _UNKNOWN_SIZE else size
            self._in_header = False
            return bool(buffer)
        if name == b"fmt ":
            if not 16 <= size <= _MAX_FMT_BYTES:
                raise AudioError(f"cannot decode WAV: the header is damaged, its fmt chunk has {size} bytes")
            if len(buffer) < 8 + size:
                return False
            self._apply_fmt(bytes(buffer[8 : 8 + size]))
        elif not all(32 <= code < 127 for code in name):
            raise AudioError(f"cannot decode WAV: the header is damaged, it has a chunk {name!r}")
        self._skip_bytes = 8 + size + size % 2
        return True

    def _end_data(self) -> bool:
        """Handle the bytes after a data chunk: other chunks, the next file, or samples beyond the size in the
        header."""
        if self._file_bytes:
            self._skip_bytes, self._file_bytes = self._file_bytes, 0
            return True
        self._file_bytes = None
        start = bytes(self._buffer[:4])
        if any(name.startswith(start) and name != start for name in (b"RIFF", *_TRAILERS)):
            return False  # too short to decide
        if _may_be_header(self._buffer):
            self._before_header = b""
        elif start in _TRAILERS:
            if len(self._buffer) < 8:
                return False
            size = int.from_bytes(self._buffer[4:8], "little")
            self._skip_bytes = 8 + size + size % 2
            return True
        self._data_bytes = None  # the size in the header covered only the first piece of the stream
        return True

    def _apply_fmt(self, fmt: bytes) -> None:
        tag, channels = int.from_bytes(fmt[0:2], "little"), int.from_bytes(fmt[2:4], "little")
        rate, bits = int.from_bytes(fmt[4:8], "little"), int.from_bytes(fmt[14:16], "little")
        if tag == _EXTENSIBLE and len(fmt) >= 26:  # the sub-format's GUID starts with the real tag
            tag = int.from_bytes(fmt[24:26], "little")
        if (tag, bits) not in _ENCODINGS:
            encoding = {1: "integer", 3: "floating point", 17: "ADPCM", 85: "mp3"}.get(tag, f"format {tag}")
            raise AudioError(f"cannot decode WAV: {bits}-bit {encoding} samples are not supported. Use 16-bit PCM.")
        format = Format(rate, channels)
        if self.format is not None and format != self.format:
            raise AudioError(
                f"cannot decode WAV: the stream changes from {self.format} to {format}. "
                "Configure a service that keeps one format."
            )
        if _ENCODINGS[tag, bits] != self._encoding:
            self._partial_frame.clear()  # its rest would have another encoding
        self._requested, self._encoding, self._has_fmt = format, _ENCODINGS[tag, bits], True


def _may_be_header(data: bytes | bytearray) -> bool:
    if len(data) >= _HEADER_BYTES:
        return data[:4] == b"RIFF" and data[8:12] == b"WAVE"
    return b"RIFF".startswith(bytes(data[:4])) and b"WAVE".startswith(bytes(data[8:12]))

"""Streaming decoder of uncompressed audio: raw samples, WAV, and the mixtures of both that services send."""

from __future__ import annotations

import re

from agent.audio.convert import SAMPLE_WIDTHS
from agent.audio.decoders.riff import (
    CHUNK_HEADER_BYTES,
    HEADER_BYTES,
    MAX_FMT_BYTES,
    TRAILERS,
    UNKNOWN_SIZE,
    ByteOrder,
    byte_order,
    is_chunk_name,
    may_be_header,
    parse_fmt,
)
from agent.audio.decoders.samples import SampleDecoder
from agent.audio.decoders.sniff import is_uncompressed
from agent.audio.format import Format
from agent.errors import AudioError

_MAX_TRAILER_BYTES = 16 << 20
"""After samples of unknown length, a chunk name with a larger size is not a chunk but part of the samples."""
_TRAILER = b"|".join(TRAILERS)
_NAME_BYTES = frozenset(b"".join(TRAILERS))
_IS_NAME_BYTE = bytes(ord("x") if code in _NAME_BYTES else ord(" ") for code in range(256))
"""Translates bytes of names to ``x``: four ``x`` may be a name. A search for the names takes four times as long."""
_TRAILER_BEGINNINGS = frozenset(name[:length] for name in TRAILERS for length in (1, 2, 3))


def create(encoding: str, rate: int, channels: int) -> PcmDecoder:
    """Create a decoder; the arguments apply to streams without a header."""
    return PcmDecoder(encoding, rate, channels)


class PcmDecoder:
    """Decodes raw samples and WAV to whole frames of s16le. Not thread-safe; one thread owns it.

    The decoder recognizes a header at the start of the stream, at the start of every later piece, and after the end of
    the previous data chunk. Therefore the caller feeds each message of the service separately. A header takes
    precedence over the requested format. A data chunk of size 0 or of unknown size extends to the end of the stream,
    except for metadata chunks, which are recognized by their names.
    """

    def __init__(self, encoding: str, rate: int, channels: int) -> None:
        if encoding not in SAMPLE_WIDTHS:
            raise AudioError(f"cannot decode samples in {encoding!r}: unknown encoding. Use s16le, mulaw or alaw.")
        self.format: Format | None = None
        self._requested = Format(rate, channels)
        self._samples = SampleDecoder(encoding, channels)
        self._buffer = bytearray()
        self._partial_frame = bytearray()
        # Samples before a possible header, which begins the buffer. None: the buffer does not begin with a header.
        self._before_header: bytes | None = None
        self._in_header = False  # in the chunks before or after the samples
        self._has_fmt = False  # the fmt chunk of this header was read
        self._order: ByteOrder = "little"
        self._long_size: int | None = None  # size of the data chunk of an RF64
        self._has_header = False  # a header came before the samples
        self._skip_bytes = 0  # rest of the chunk that is being skipped
        self._data_bytes: int | None = None  # rest of the data chunk; None: until the stream ends
        self._is_padded = False  # the data chunk has an odd size
        self._file_bytes: int | None = None  # rest of the RIFF file; None: unknown
        self._is_checked = False  # the stream was checked and is not compressed

    @property
    def is_in_header(self) -> bool:
        """Whether a header has begun whose data chunk has not."""
        return self._before_header is not None or (self._in_header and self._data_bytes is None)

    def feed(self, chunk: bytes) -> bytes:
        """Return the audio that ``chunk`` completes.

        Raises:
            AudioError: If the stream is compressed, its header is damaged, or its samples have an unsupported encoding.
        """
        if not chunk:
            return b""
        if self._are_samples(chunk):
            return self._samples.decode(chunk)
        is_between_files = not self._in_header or self._data_bytes == 0
        if self._before_header is not None and may_be_header(chunk) and not may_be_header(self._buffer + chunk):
            self._before_header += self._buffer  # samples that looked like the start of a header
            self._buffer.clear()
        elif self._before_header is None and is_between_files and may_be_header(chunk):
            self._before_header = bytes(self._buffer)
            self._buffer.clear()
        self._buffer += chunk
        out: list[bytes] = []
        while self._step(out):
            pass
        return out[0] if len(out) == 1 else b"".join(out)

    def finish(self) -> bytes:
        """Return the audio that was held back as a possible header; an incomplete header is dropped."""
        if self._before_header is not None and len(self._buffer) < 4:
            self._buffer[:0], self._before_header = self._before_header, None
        return b"" if self._before_header is not None or self._in_header or self._skip_bytes else self._take_samples()

    def _step(self, out: list[bytes]) -> bool:
        """Consume bytes or change the state; return whether another step may follow."""
        if self._before_header is not None:
            return self._read_riff()
        if self._skip_bytes:
            self._consume(min(self._skip_bytes, len(self._buffer)), is_skipped=True)
            return bool(self._buffer)
        if self._in_header:
            return self._read_chunk() if self._file_bytes != 0 else self._end_file()
        if self._data_bytes == 0:
            return self._end_data()
        if not self._is_checked:
            self._is_checked = is_uncompressed(self._buffer)
            if not self._is_checked:
                return False
        out.append(self._take_samples(self._samples_before_trailer()))
        return self._data_bytes == 0 and bool(self._buffer)

    def _are_samples(self, chunk: bytes) -> bool:
        """Return whether a piece has only whole frames. Most pieces do: they need no copy and no change of state."""
        is_within_samples = self._is_checked and self._data_bytes is None and self._file_bytes is None
        is_waiting = self._in_header or self._before_header is not None or self._skip_bytes
        return (
            is_within_samples
            and self.format is not None
            and not (is_waiting or self._buffer or self._partial_frame)
            and not len(chunk) % self._samples.frame_bytes
            and not may_be_header(chunk)
            and not (self._has_header and _may_have_trailer(chunk))
        )

    def _samples_before_trailer(self) -> int | None:
        """Return how many bytes of the buffer precede a chunk of metadata; ``None``: all of them are samples.

        Samples of unknown length may end at any byte. If the beginning of a chunk is found, the samples end before it.
        If the last bytes may be the beginning of a chunk, they stay in the buffer until the next piece.
        """
        if self._data_bytes is not None or not self._has_header:
            return None
        buffer = self._buffer
        if not _may_have_trailer(buffer):
            return None
        for match in re.finditer(_TRAILER, buffer):
            start = match.start()
            if len(buffer) < start + CHUNK_HEADER_BYTES:
                return start
            if int.from_bytes(buffer[start + 4 : start + 8], self._order) <= _MAX_TRAILER_BYTES:
                self._data_bytes = start
                return start
        for length in (3, 2, 1):
            if bytes(buffer[-length:]) in _TRAILER_BEGINNINGS and len(buffer) >= length:
                return len(buffer) - length
        return None

    def _take_samples(self, limit: int | None = None) -> bytes:
        frame_bytes = self._samples.frame_bytes
        size = len(self._buffer) if self._data_bytes is None else min(self._data_bytes, len(self._buffer))
        size = size if limit is None else min(size, limit)
        # Avoid copies: most pieces consist of whole frames.
        data = self._buffer if size == len(self._buffer) else self._buffer[:size]
        if self._partial_frame:
            data = self._partial_frame + data
        whole = len(data) // frame_bytes * frame_bytes
        # Kept across a header: services split their audio at any byte and put a header before each piece.
        self._partial_frame = data[whole:]
        pcm = self._samples.decode(bytes(data if whole == len(data) else data[:whole]))
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
        if not may_be_header(buffer):
            buffer[:0], self._before_header = self._before_header or b"", None
            return True
        if len(buffer) < HEADER_BYTES:
            return False
        self._order = byte_order(buffer) or "little"
        size = int.from_bytes(buffer[4:8], self._order)
        self._file_bytes = None if size == 0 or size >= UNKNOWN_SIZE else size + 8
        self._consume(HEADER_BYTES)
        self._partial_frame += self._before_header or b""
        self._before_header, self._in_header, self._has_fmt = None, True, False
        self._has_header, self._long_size, self._data_bytes = True, None, None
        self._is_checked, self._skip_bytes = True, 0
        return True

    def _read_chunk(self) -> bool:
        """Read one chunk before or after the samples, or the header of the data chunk."""
        buffer = self._buffer
        if len(buffer) < CHUNK_HEADER_BYTES:
            return False
        name, size = bytes(buffer[:4]), int.from_bytes(buffer[4:8], self._order)
        body = bytes(buffer[CHUNK_HEADER_BYTES : CHUNK_HEADER_BYTES + size]) if size <= MAX_FMT_BYTES else b""
        if name == b"data":
            if not self._has_fmt:
                raise AudioError(
                    "cannot decode WAV: the header has no fmt chunk before its data. The audio is damaged."
                )
            self._consume(CHUNK_HEADER_BYTES)
            size = self._long_size if size == 0xFFFF_FFFF and self._long_size is not None else size
            self._data_bytes = None if size == 0 or UNKNOWN_SIZE <= size <= 0xFFFF_FFFF else size
            self._in_header, self._is_padded = False, bool(size % 2)
            return bool(buffer)
        if name in (b"fmt ", b"ds64") and len(body) < size <= MAX_FMT_BYTES:
            return False
        if name == b"fmt ":
            self._apply_fmt(body)
        elif name == b"ds64":
            self._long_size = int.from_bytes(body[8:16], self._order)
        elif not is_chunk_name(name) and self._data_bytes == 0 and self._file_bytes:
            size = self._file_bytes - CHUNK_HEADER_BYTES  # no chunk follows the data chunk: skip the rest of the file
        elif not is_chunk_name(name):
            raise AudioError(f"cannot decode WAV: the header is damaged, it has a chunk {name!r}")
        self._skip_bytes = CHUNK_HEADER_BYTES + size + size % 2
        if self._data_bytes == 0 and self._file_bytes is not None:
            self._skip_bytes = min(self._skip_bytes, self._file_bytes)
        return True

    def _end_file(self) -> bool:
        self._in_header = False
        return bool(self._buffer)

    def _end_data(self) -> bool:
        """Handle the bytes after a data chunk: other chunks, another file, or samples beyond the stated size."""
        if self._file_bytes:
            self._in_header, self._skip_bytes = True, int(self._is_padded)
            return True
        self._file_bytes = None
        start = bytes(self._buffer[:4])
        if any(name.startswith(start) and name != start for name in TRAILERS):
            return False  # too short to decide
        if may_be_header(self._buffer):
            self._before_header = b""
        elif start in TRAILERS:
            if len(self._buffer) < CHUNK_HEADER_BYTES:
                return False
            size = int.from_bytes(self._buffer[4:8], self._order)
            self._skip_bytes = CHUNK_HEADER_BYTES + size + size % 2
            return True
        self._data_bytes = None  # the size in the header covered only the first piece of the stream
        return True

    def _apply_fmt(self, fmt: bytes) -> None:
        encoding, rate, channels, block_bytes = parse_fmt(fmt, self._order)
        format = Format(rate, channels)
        if self.format is not None and format != self.format:
            raise AudioError(
                f"cannot decode WAV: the stream changes from {self.format} to {format}. "
                "Configure a service that keeps one format."
            )
        if not self._samples.is_made_for(encoding, channels, block_bytes):
            self._partial_frame.clear()  # the rest of this frame would have another encoding
            self._samples = SampleDecoder(encoding, channels, block_bytes)
        self._requested, self._has_fmt = format, True


def _may_have_trailer(samples: bytes | bytearray) -> bool:
    """Return whether samples (at least one byte) may contain the name of a chunk, or end within a name."""
    if samples[-1] in _NAME_BYTES and any(bytes(samples[-length:]) in _TRAILER_BEGINNINGS for length in (1, 2, 3)):
        return True
    # Each name has one byte at such a position. Quiet samples have no byte of a name at these positions.
    if b"x" not in samples[3::4].translate(_IS_NAME_BYTE):
        return False
    return b"xxxx" in samples.translate(_IS_NAME_BYTE) and re.search(_TRAILER, samples) is not None

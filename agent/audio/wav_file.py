"""Readers of WAV files: ``WavFile`` for seekable files and ``WavPipe`` for pipes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from agent.audio.decoders.id3 import tag_bytes
from agent.audio.decoders.riff import (
    CHUNK_HEADER_BYTES,
    HEADER_BYTES,
    MAX_FMT_BYTES,
    TRAILERS,
    ByteOrder,
    WavFormat,
    byte_order,
    is_chunk_name,
    parse_fmt,
)
from agent.audio.decoders.samples import SampleDecoder
from agent.audio.decoders.wav import PcmDecoder
from agent.audio.format import SPEECH, Format
from agent.errors import AudioError
from agent.system.named_tuple import NamedTuple

_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 12
_MAX_METADATA_BYTES = 16 << 20
"""Metadata after sound of unknown length is searched only in this many bytes at the end of the file."""


class _Span(NamedTuple):
    start: int
    length: int


class WavFile:
    """Reads a seekable WAV file (RIFF, RIFX, RF64 or BW64). Not thread-safe.

    The samples are integers, floating-point numbers, G.711, ADPCM (IMA, MS) or GSM 6.10. The file is read by position,
    so that metadata is never decoded as sound.

    The sound is the contents of all data chunks. If the stated size of a data chunk is unknown or too large, the chunk
    ends where metadata chunks begin that reach the end of the file. Without metadata it ends at the end of the file.

    Args:
        file: The file; it is not closed.

    Raises:
        AudioError: The file is no WAV, is damaged, or its samples have an unsupported encoding.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._order: ByteOrder = "little"
        self._long_size: int | None = None  # size of the data chunk of an RF64
        self._spans: list[_Span] = []
        self._format: WavFormat | None = None
        self._read_chunks(self._read_header())
        if self._format is None or not self._spans:
            raise _damaged("it has no data chunk")
        self.format: WavFormat = self._format
        self._make_decoder()  # raises AudioError for an unsupported block size

    def read(self) -> Iterator[bytes]:
        """Yield the sound in pieces: whole frames of interleaved s16le."""
        samples = self._make_decoder()
        rest = b""
        for span in self._spans:
            self._file.seek(span.start)
            missing = span.length
            while missing and (data := self._file.read(min(missing, _READ_BYTES))):
                missing -= len(data)
                data = rest + data
                whole = len(data) - len(data) % samples.frame_bytes
                rest = data[whole:]
                yield samples.decode(data[:whole])

    def _make_decoder(self) -> SampleDecoder:
        return SampleDecoder(self.format.encoding, self.format.channels, self.format.block_bytes)

    def _read_header(self) -> int:
        """Read the header of the file and return the position after it; an ID3 tag may precede the header."""
        position = tag_bytes(self._at(0, HEADER_BYTES))
        order = byte_order(self._at(position, HEADER_BYTES))
        if order is None:
            raise AudioError("the file is not a WAV file. Convert it to one")
        self._order = order
        return position + HEADER_BYTES

    def _read_chunks(self, position: int) -> None:
        """Read the chunks from ``position`` to the end of the file, or to the first bytes that are not a chunk."""
        while position + CHUNK_HEADER_BYTES <= self._size:
            name, size = self._chunk(position)
            body = position + CHUNK_HEADER_BYTES
            if byte_order(self._at(position, HEADER_BYTES)) is not None:
                raise AudioError("the file consists of several WAV files. Join these with: sox FILE FILE RESULT.wav")
            if not is_chunk_name(name):
                if not self._spans:
                    raise _damaged(f"it has a chunk {name!r}")
                if not any(span.length for span in self._spans):
                    raise AudioError(
                        "the header of the file states no sound, but other data follows. Repair the header with: "
                        "sox --ignore-length FILE RESULT.wav"
                    )
                return
            if name == b"ds64":
                self._long_size = int.from_bytes(self._at(body + 8, 8), self._order)
            elif name == b"fmt " and not self._spans:
                if self._format is not None:
                    raise _damaged("it has two fmt chunks")
                self._format = parse_fmt(self._at(body, min(size, MAX_FMT_BYTES + 1)), self._order)
            elif name == b"data":
                if self._format is None:
                    raise _damaged("it has no fmt chunk before its data")
                size = self._data_size(body, size)
                self._spans.append(_Span(body, size))
            position = self._next_chunk(body, size)

    def _data_size(self, start: int, size: int) -> int:
        if size == 0xFFFF_FFFF and self._long_size is not None:
            size = self._long_size
        end = start + size
        if end <= self._size and (self._are_chunks(end + size % 2) or self._are_chunks(end)):
            return size
        return min(size, self._find_metadata(start) - start)

    def _next_chunk(self, body: int, size: int) -> int:
        """Return the position of the next chunk; some programs omit the padding byte of a chunk with an odd size."""
        end = body + size
        if size % 2 and is_chunk_name(self._at(end, 4)) and not is_chunk_name(self._at(end + 1, 4)):
            return end
        return end + size % 2

    def _find_metadata(self, start: int) -> int:
        """Return the start of the chunks that follow the samples and end with the file; without such, the file size."""
        start = max(start, self._size - _MAX_METADATA_BYTES)
        tail = self._at(start, self._size - start)
        places = []
        for name in TRAILERS:
            place = tail.find(name)
            while place >= 0:
                places.append(place)
                place = tail.find(name, place + 1)
        return next((start + place for place in sorted(places) if self._are_chunks(start + place)), self._size)

    def _are_chunks(self, position: int) -> bool:
        """Return whether the rest of the file from ``position`` on is chunks; the last padding byte may be missing."""
        while position < self._size:
            name, size = self._chunk(position)
            if not is_chunk_name(name):
                return False
            position += CHUNK_HEADER_BYTES + size + size % 2
        return position - self._size <= 1

    def _chunk(self, position: int) -> tuple[bytes, int]:
        head = self._at(position, CHUNK_HEADER_BYTES)
        return head[:4], int.from_bytes(head[4:], self._order)

    def _at(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        return self._file.read(size)


def _damaged(what: str) -> AudioError:
    return AudioError(f"the file is damaged, {what}. Record or convert it again")


class WavPipe:
    """Reads a WAV file from a pipe. The constructor blocks until the first audio is received. Not thread-safe.

    Args:
        file: The pipe.

    Raises:
        AudioError: The file is no WAV, is damaged, or its samples have an unsupported encoding.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        start = b""
        while len(start) < HEADER_BYTES and (data := file.read(HEADER_BYTES - len(start))):
            start += data  # an unbuffered pipe may return fewer bytes
        # The decoder also accepts audio without a header, which services send; for a file this is an error.
        if byte_order(start) is None:
            raise AudioError("the file is not a WAV file. Convert it to one")
        self._decoder = PcmDecoder("s16le", SPEECH.rate, SPEECH.channels)
        self._decoder.feed(start)
        self._first = b""
        while not self._first and (data := file.read(_PIPE_BYTES)):
            self._first = self._decoder.feed(data)
        if not self._first and self._decoder.is_in_header:
            raise _damaged("it has no data chunk")
        self._first = self._first or self._decoder.finish()
        self.format: Format = self._decoder.format or SPEECH

    def read(self) -> Iterator[bytes]:
        """Yield the sound in pieces: whole frames of interleaved s16le."""
        yield self._first
        while data := self._file.read(_PIPE_BYTES):
            yield self._decoder.feed(data)
        yield self._decoder.finish()

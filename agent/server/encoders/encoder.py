"""Encodes PCM for the clients: containers, sample formats and WAV headers."""

from __future__ import annotations

import struct
from typing import Protocol

from agent.audio.convert import Resampler, to_stereo
from agent.errors import AudioError
from agent.server.encoders.g711 import compand
from agent.services.protocols.codec import Encoding

WAV_LAYOUTS = ("header", "first", "every")
"""Position of the RIFF headers: in a separate first message, in the first audio message, or in every message. Each of
them is used by a service."""

_FORMAT_TAGS = {"s16le": 1, "alaw": 6, "mulaw": 7}
_UNKNOWN_SIZE = 4294967040  # the size in Fish Audio's headers: the length of the stream is unknown


class Encoder(Protocol):
    """Encodes mono s16le at ``rate`` Hz into messages. Not thread-safe; owned by the session's speaking thread."""

    rate: int

    def feed(self, pcm: bytes) -> list[bytes]: ...
    def finish(self) -> list[bytes]: ...
    def close(self) -> None: ...


class EncodedStream:
    """One encoded stream with resampling. Not thread-safe; owned by the session's speaking thread.

    ``feed`` and ``finish`` return the messages that are ready, possibly none; both raise ``AudioError`` if the library
    fails. Close a stream that is not finished: the libraries of MP3 and Opus allocate memory outside Python.

    Args:
        encoding: Format that the client requested.
        layout: Position of the RIFF headers, one of ``WAV_LAYOUTS``.

    Raises:
        AudioError: The format is not supported, or its library is missing.
    """

    def __init__(self, encoding: Encoding, layout: str = "header") -> None:
        self._encoder = _create_encoder(encoding, layout)
        self._resampler: Resampler | None = None
        self._input_rate = self._encoder.rate

    def feed(self, pcm: bytes, rate: int) -> list[bytes]:
        """Add mono s16le at ``rate`` Hz. The rate may change between two calls."""
        messages: list[bytes] = []
        if rate != self._input_rate:
            messages += self._flush_resampler()
            self._input_rate = rate
        if rate != self._encoder.rate and self._resampler is None:
            self._resampler = Resampler(rate, self._encoder.rate)
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm)
        return messages + (self._encoder.feed(pcm) if pcm else [])

    def finish(self) -> list[bytes]:
        """End the stream and return its last messages. Releases the encoder, also after an error."""
        try:
            return self._flush_resampler() + self._encoder.finish()
        finally:
            self.close()

    def close(self) -> None:
        """Release the encoder of a stream that is not finished. Idempotent."""
        self._encoder.close()

    def _flush_resampler(self) -> list[bytes]:
        if self._resampler is None:
            return []
        rest = self._resampler.finish()
        self._resampler = None
        return self._encoder.feed(rest) if rest else []


class PcmEncoder:
    """Encodes PCM or G.711 in one or two channels, with or without RIFF headers. Not thread-safe; see ``Encoder``."""

    def __init__(self, encoding: Encoding, layout: str) -> None:
        self.rate = encoding.sample_rate
        self._encoding = encoding
        self._layout = layout if encoding.container == "wav" else "none"
        self._has_begun = False

    def feed(self, pcm: bytes) -> list[bytes]:
        if self._encoding.channels == 2:
            pcm = to_stereo(pcm)
        data = pcm if self._encoding.samples == "s16le" else compand(pcm, self._encoding.samples)
        is_first, self._has_begun = not self._has_begun, True
        if self._layout == "every":
            return [wav_header(self._encoding, len(data)) + data]
        if not is_first or self._layout == "none":
            return [data]
        header = wav_header(self._encoding, None)
        return [header, data] if self._layout == "header" else [header + data]

    def finish(self) -> list[bytes]:
        if self._has_begun or self._layout == "none":
            return []
        self._has_begun = True
        return [wav_header(self._encoding, 0)]  # a file without samples is still a valid file

    def close(self) -> None:
        """Do nothing: this encoder allocates no memory outside Python."""


def wav_header(encoding: Encoding, size: int | None) -> bytes:
    """Return the 44-byte header for ``size`` bytes of samples; ``None`` is a stream of unknown length."""
    width = 2 if encoding.samples == "s16le" else 1
    block = width * encoding.channels
    size = _UNKNOWN_SIZE if size is None else size
    riff_size = (size + 36) & 0xFFFFFFFF
    fields = (_FORMAT_TAGS[encoding.samples], encoding.channels, encoding.sample_rate, encoding.sample_rate * block)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", 16, *fields, block, 8 * width, b"data", size
    )


def _create_encoder(encoding: Encoding, layout: str) -> Encoder:
    if encoding.channels not in (1, 2):
        raise AudioError(f"audio with {encoding.channels} channels is not supported: request 1 or 2")
    if encoding.container in ("raw", "wav") and encoding.samples in _FORMAT_TAGS:
        return PcmEncoder(encoding, layout)
    if encoding.container == "mp3":
        from agent.server.encoders.mp3 import Mp3Encoder

        return Mp3Encoder(encoding.sample_rate)
    if encoding.container == "opus":
        from agent.server.encoders.opus import OpusEncoder

        return OpusEncoder(encoding.sample_rate)
    raise AudioError(f"the format {encoding.container} is not supported: request wav, raw, mp3 or opus")

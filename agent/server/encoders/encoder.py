"""From PCM to what a client asked for: containers, sample formats, and the headers that stand before the sound."""

from __future__ import annotations

import struct
from typing import Protocol

from agent.audio.convert import Resampler, to_stereo
from agent.errors import AudioError
from agent.server.encoders.g711 import compand
from agent.services.protocols.codec import Encoding

WAV_LAYOUTS = ("header", "first", "every")
"""Where the RIFF headers are: a message of its own before the sound, before the sound of the first message, or one in
every message. All three are known from the services."""

_FORMAT_TAGS = {"s16le": 1, "alaw": 6, "mulaw": 7}
_PLACEHOLDER = 4294967040  # what Fish Audio's headers say of sound whose length is not known yet


class Encoder(Protocol):
    """Takes mono s16le at ``rate`` Hz and gives messages: what goes into one piece of the wire each."""

    rate: int

    def feed(self, pcm: bytes) -> list[bytes]: ...
    def finish(self) -> list[bytes]: ...


class Stream:
    """One stream of encoded sound, from whatever rate an engine has to what was asked for.

    ``feed(pcm, rate)`` takes mono s16le; the rate may change from one call to the next only after ``settle``, which
    lets out what the resampler still holds. ``finish`` ends the stream. Every call gives messages, perhaps none.
    Raises ``AudioError`` for an encoding that cannot be made here.
    """

    def __init__(self, encoding: Encoding, layout: str = "header") -> None:
        self._encoder = _encoder(encoding, layout)
        self._resampler: Resampler | None = None
        self._from = self._encoder.rate

    def feed(self, pcm: bytes, rate: int) -> list[bytes]:
        messages: list[bytes] = []
        if rate != self._from:
            messages += self.settle()
            self._from = rate
        if rate != self._encoder.rate and self._resampler is None:
            self._resampler = Resampler(rate, self._encoder.rate)
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm)
        return messages + (self._encoder.feed(pcm) if pcm else [])

    def settle(self) -> list[bytes]:
        if self._resampler is None:
            return []
        rest = self._resampler.finish()
        self._resampler = None
        return self._encoder.feed(rest) if rest else []

    def finish(self) -> list[bytes]:
        return self.settle() + self._encoder.finish()


class Plain:
    """Sound without compression, with or without a RIFF header, companded or not, in one channel or two."""

    def __init__(self, encoding: Encoding, layout: str) -> None:
        self.rate = encoding.sample_rate
        self._encoding = encoding
        self._layout = layout if encoding.container == "wav" else "none"
        self._begun = False

    def feed(self, pcm: bytes) -> list[bytes]:
        if self._encoding.channels == 2:
            pcm = to_stereo(pcm)
        data = pcm if self._encoding.samples == "s16le" else compand(pcm, self._encoding.samples)
        begun, self._begun = self._begun, True
        if self._layout == "every":
            return [wav_header(self._encoding, len(data)) + data]
        if begun or self._layout == "none":
            return [data]
        header = wav_header(self._encoding, None)
        return [header, data] if self._layout == "header" else [header + data]

    def finish(self) -> list[bytes]:
        if self._begun or self._layout == "none":
            return []
        self._begun = True
        return [wav_header(self._encoding, 0)]  # a file without sound is a file too


def wav_header(encoding: Encoding, size: int | None) -> bytes:
    """The 44 bytes before ``size`` bytes of samples; ``None``: a stream whose length nobody knows yet."""
    width = 2 if encoding.samples == "s16le" else 1
    block = width * encoding.channels
    size = _PLACEHOLDER if size is None else size
    sizes = (size + 36) & 0xFFFFFFFF
    about = (_FORMAT_TAGS[encoding.samples], encoding.channels, encoding.sample_rate, encoding.sample_rate * block)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", sizes, b"WAVE", b"fmt ", 16, *about, block, 8 * width, b"data", size
    )


def _encoder(encoding: Encoding, layout: str) -> Encoder:
    if encoding.channels not in (1, 2):
        raise AudioError(f"sound in {encoding.channels} channels cannot be made here: ask for 1 or 2")
    if encoding.container in ("raw", "wav") and encoding.samples in _FORMAT_TAGS:
        return Plain(encoding, layout)
    if encoding.container == "mp3":
        from agent.server.encoders.mp3 import Mp3

        return Mp3(encoding.sample_rate)
    if encoding.container == "opus":
        from agent.server.encoders.opus import OggOpus

        return OggOpus(encoding.sample_rate)
    raise AudioError(f"the format {encoding.container} cannot be made here: ask for wav, raw, mp3 or opus")

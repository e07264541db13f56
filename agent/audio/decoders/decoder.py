"""The interface of the audio decoders and the registry of the containers."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from agent.audio.format import Format
from agent.errors import AudioError

DECODERS = {
    "raw": "agent.audio.decoders.wav",
    "wav": "agent.audio.decoders.wav",
    "mp3": "agent.audio.decoders.mp3",
    "opus": "agent.audio.decoders.opus",
}
"""Module of each container, imported on first use. It defines ``create(encoding, rate, channels) -> Decoder``."""


class Decoder(Protocol):
    """Decodes one stream to s16le, piece by piece. Never blocks. Not thread-safe; one thread owns it.

    A decoder buffers a bounded amount of data: a header, or a few packets or frames.
    """

    @property
    def format(self) -> Format | None:
        """Rate and channels of the decoded audio as the stream states them; ``None`` before the first audio."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Return the audio that ``chunk`` completes: whole frames of s16le, often empty.

        Raises:
            AudioError: If the stream cannot be decoded.
        """
        ...

    def finish(self) -> bytes:
        """Return the rest of the audio at the end of the stream.

        Raises:
            AudioError: If the stream held data but no audio in the expected container.
        """
        ...


def create_decoder(container: str, encoding: str, rate: int, channels: int) -> Decoder:
    """Create a decoder.

    Args:
        container: ``raw``, ``wav``, ``mp3`` or ``opus`` (Ogg Opus).
        encoding: ``s16le``, ``mulaw`` or ``alaw``: the samples of ``raw``, and of ``wav`` without a header.
        rate: Requested rate in Hz; a header in the stream takes precedence.
        channels: Requested channels; a header in the stream takes precedence.

    Raises:
        AudioError: If the container is unknown, or its library is missing (the message names the Debian package).
    """
    module = DECODERS.get(container)
    if module is None:
        raise AudioError(f"cannot decode audio in the format {container!r}: unknown format. Use wav, raw, mp3 or opus.")
    return cast(Decoder, importlib.import_module(module).create(encoding, rate, channels))

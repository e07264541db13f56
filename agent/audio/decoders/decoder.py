"""Sound as services send it, to PCM, piece by piece: what has arrived can be heard, whatever is still to come."""

from __future__ import annotations

from typing import Protocol

from agent.audio.format import Format
from agent.errors import AudioError


class Decoder(Protocol):
    """One stream of sound. Never waits, never holds more than a packet or a header back.

    ``format``: rate and channels of the PCM, as the stream itself says; known once the first sound is out.
    """

    @property
    def format(self) -> Format | None: ...

    def feed(self, chunk: bytes) -> bytes:
        """PCM s16le, in whole frames, that ``chunk`` completes; often empty. ``AudioError`` if it cannot be heard."""
        ...

    def finish(self) -> bytes:
        """The rest, when the stream has ended. ``AudioError`` if something came that was not what was expected."""
        ...


def decoder(container: str, samples: str, rate: int, channels: int) -> Decoder:
    """A decoder for ``container`` (raw, wav, mp3, or opus: Ogg Opus) and, in raw and wav, ``samples`` (s16le, mulaw,
    alaw).

    ``rate`` and ``channels`` are what was asked for; a header in the stream outranks them. ``AudioError``, naming the
    Debian package, where a library is missing.
    """
    if container in ("raw", "wav"):
        from agent.audio.decoders.wav import PcmDecoder

        return PcmDecoder(samples, rate, channels)
    if container == "mp3":
        from agent.audio.decoders.mp3 import Mp3Decoder

        return Mp3Decoder()
    if container == "opus":
        from agent.audio.decoders.opus import OpusDecoder

        return OpusDecoder(rate)
    raise AudioError(f"sound in the format {container!r} cannot be decoded: use wav, raw, mp3 or opus")

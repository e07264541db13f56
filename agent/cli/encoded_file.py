"""Writer of compressed sound files for ``say --output``."""

from __future__ import annotations

from agent.audio.convert import FormatConverter
from agent.audio.format import Format
from agent.audio.wav_writer import AtomicSoundFile
from agent.server.encoders.encoder import EncodedStream
from agent.services.protocols.codec import Encoding


class EncodedFile:
    """Writes an mp3 (64 kbit/s) or Ogg Opus file (32 kbit/s) of one channel. Not thread-safe; one thread owns it.

    The file appears under its name only when it is complete, as with ``WavWriter``.

    Args:
        path: The file.
        container: ``mp3`` or ``opus``.
        format: Format of the s16le audio, which is mixed to mono and resampled to a rate that the container supports.

    Raises:
        AudioError: From all methods except ``discard``, if the file cannot be written or the library is missing.
    """

    def __init__(self, path: str, container: str, format: Format) -> None:
        self._rate = format.rate
        self._stream = EncodedStream(Encoding(container, format.rate))
        self._mixer = FormatConverter(format, Format(format.rate))
        self._file = AtomicSoundFile(path)

    def write(self, pcm: bytes) -> None:
        """Append s16le samples; only whole frames (see ``Format.frame_bytes``)."""
        self._put(self._stream.feed(self._mixer.feed(pcm), self._rate))

    def close(self) -> None:
        """Write the end of the stream and move the file to ``path``."""
        self._put(self._stream.finish())
        self._file.commit()

    def discard(self) -> None:
        """Release the encoder and remove the unfinished file. Idempotent; no effect after ``close``."""
        self._stream.close()
        self._file.discard()

    def _put(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._file.write(chunk)

"""WAV files, written whole or not at all. What reads them is ``riff``, which takes them piece by piece."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError
from agent.system.files import Draft

HEADER_BYTES = 44
UNKNOWN_SIZE = 0xFFFFFFFF
"""The size of a stream whose length nobody knows yet."""

_PCM = 1


def wav_header(format: Format, nbytes: int | None) -> bytes:
    """The 44 bytes before ``nbytes`` of sound; ``None`` where nobody knows how many will come (a stream)."""
    known = nbytes is not None and nbytes <= UNKNOWN_SIZE - HEADER_BYTES
    size = nbytes if known and nbytes is not None else UNKNOWN_SIZE
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        size + HEADER_BYTES - 8 if known else UNKNOWN_SIZE,
        b"WAVE",
        b"fmt ",
        16,
        _PCM,
        format.channels,
        format.rate,
        format.rate * format.frame_bytes,
        format.frame_bytes,
        8 * SAMPLE_BYTES,
        b"data",
        size,
    )


class WavWriter:
    """A WAV file in the making, which is put in its place only when it is whole (see ``Draft``).

    ``write`` as the sound comes, then ``close()`` puts the file in its place, or ``abandon()`` leaves nothing (and a
    file that was there before as it was). A disk that is full or a folder that is missing is an ``AudioError``;
    after it nothing is left either.
    """

    def __init__(self, path: str | os.PathLike[str], format: Format) -> None:
        self.path = Path(path)
        self.format = format
        self.nbytes = 0
        try:
            # Through a link to what it names; a file put in the place of a device or a pipe would destroy that.
            self._place = self.path.resolve()
            if self._place.exists() and not self._place.is_file():
                raise ValueError("it is not an ordinary file")
            self._draft = Draft(self._place)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._unwritable(error) from error
        self._write(wav_header(format, None))

    def write(self, pcm: bytes) -> None:
        """More sound, in whole samples of every channel."""
        self._write(pcm)
        self.nbytes += len(pcm)

    def close(self) -> None:
        """Makes the sizes right and puts the file in its place. Safe twice, and after ``abandon()``."""
        if self._draft.file.closed:
            return
        try:
            self._draft.file.seek(0)
            self._draft.file.write(wav_header(self.format, self.nbytes))
            self._draft.commit()
        except OSError as error:
            self.discard()
            raise self._unwritable(error) from error

    def discard(self) -> None:
        """Leaves nothing behind. Safe twice, and after ``close()`` without effect."""
        self._draft.discard()

    def _write(self, data: bytes) -> None:
        try:
            self._draft.file.write(data)
        except OSError as error:
            self.discard()
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> AudioError:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return AudioError(f"{self.path} cannot be written ({why}): name a file in a folder with room and permission")

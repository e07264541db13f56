"""WAV files, written whole or not at all. What reads them is ``riff``, which takes them piece by piece."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError

HEADER_BYTES = 44
PLACEHOLDER = 0xFFFFFFFF
"""The size of a stream whose length nobody knows yet."""

_PCM = 1


def wav_header(format: Format, nbytes: int | None) -> bytes:
    """The 44 bytes before ``nbytes`` of sound; ``None`` where nobody knows how many will come (a stream)."""
    known = nbytes is not None and nbytes <= PLACEHOLDER - HEADER_BYTES
    size = nbytes if known and nbytes is not None else PLACEHOLDER
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        size + HEADER_BYTES - 8 if known else PLACEHOLDER,
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
    """A WAV file in the making: beside its place under another name, and put there only when it is whole.

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
            import tempfile  # with what it loads, 4 ms that only a recording costs

            handle, name = tempfile.mkstemp(".part", f".{self._place.name}.", self._place.parent)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._unwritable(error) from error
        self._part: Path | None = Path(name)
        self._file = os.fdopen(handle, "wb")
        self.write(b"")

    def write(self, pcm: bytes) -> None:
        """More sound, in whole samples of every channel."""
        try:
            if not self.nbytes and self._file.tell() == 0:
                self._file.write(wav_header(self.format, None))
            self._file.write(pcm)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error
        self.nbytes += len(pcm)

    def close(self) -> None:
        """Makes the sizes right and puts the file in its place. Safe twice, and after ``abandon()``."""
        part = self._part
        if part is None:
            return
        try:
            self._file.seek(0)
            self._file.write(wav_header(self.format, self.nbytes))
            self._file.flush()
            # As any file the user makes, not with the tightness of a temporary one.
            os.fchmod(self._file.fileno(), self._usual_mode())
            self._file.close()
            os.replace(part, self._place)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error
        self._part = None

    def abandon(self) -> None:
        """Leaves nothing behind. Safe twice, and after ``close()`` without effect."""
        part, self._part = self._part, None
        if part is None:
            return
        part.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:
            return  # what could not be flushed (a full disk) was to be thrown away

    def _usual_mode(self) -> int:
        try:
            return stat.S_IMODE(self._place.stat().st_mode)  # a file that is replaced keeps its mode
        except FileNotFoundError:
            return 0o644

    def _unwritable(self, error: Exception) -> AudioError:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return AudioError(f"{self.path} cannot be written ({why}): name a file in a folder with room and permission")

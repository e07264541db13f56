"""Atomic writer of WAV files (16-bit PCM)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError
from agent.system.files import AtomicFile

HEADER_BYTES = 44
UNKNOWN_SIZE = 0xFFFFFFFF
"""RIFF size of a stream of unknown length."""

_PCM = 1


def wav_header(format: Format, nbytes: int | None) -> bytes:
    """Return the 44-byte WAV header for ``nbytes`` of audio; ``None``: a stream of unknown length."""
    # A 32-bit size cannot express 4 GiB or more.
    is_known = nbytes is not None and nbytes <= UNKNOWN_SIZE - HEADER_BYTES
    size = nbytes if is_known and nbytes is not None else UNKNOWN_SIZE
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        size + HEADER_BYTES - 8 if is_known else UNKNOWN_SIZE,
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
    """Writes a WAV file that appears under its name only when it is complete. Not thread-safe; one thread owns it.

    Call ``write`` for each piece, then ``close`` to put the file in its place, or ``discard`` to leave the directory
    unchanged. After an error no file remains.

    Raises:
        AudioError: From all methods except ``discard``, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], format: Format) -> None:
        self.path = Path(path)
        self.format = format
        self.nbytes = 0
        try:
            # Resolve links, and refuse a device or a pipe: replacing it by a file would destroy it.
            self._target = self.path.resolve()
            if self._target.exists() and not self._target.is_file():
                raise ValueError("it is not a regular file")
            self._draft = AtomicFile(self._target)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._write_error(error) from error
        self._write(wav_header(format, None))

    def write(self, pcm: bytes) -> None:
        """Append whole frames."""
        self._write(pcm)
        self.nbytes += len(pcm)

    def close(self) -> None:
        """Write the final sizes and put the file in its place. Idempotent; no effect after ``discard``."""
        if self._draft.file.closed:
            return
        try:
            self._draft.file.seek(0)
            self._draft.file.write(wav_header(self.format, self.nbytes))
            self._draft.commit()
        except OSError as error:
            self.discard()
            raise self._write_error(error) from error

    def discard(self) -> None:
        """Remove the unfinished file. Idempotent; no effect after ``close``."""
        self._draft.discard()

    def _write(self, data: bytes) -> None:
        try:
            self._draft.file.write(data)
        except OSError as error:
            self.discard()
            raise self._write_error(error) from error

    def _write_error(self, error: Exception) -> AudioError:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return AudioError(
            f"{self.path} cannot be written: {reason}. Use a directory with free space and write permission."
        )

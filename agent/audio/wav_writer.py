"""Atomic writer of WAV files (16-bit PCM)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError
from agent.system.files import AtomicFile

HEADER_BYTES = 44
UNKNOWN_SIZE = 0xFFFFFFFF
"""RIFF size of a stream of unknown length."""

_PCM = 1
_FOREIGN_SUFFIXES = (
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv", ".mp2",
    ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".pcm", ".ra", ".raw", ".snd", ".spx", ".voc", ".w64", ".weba",
    ".webm", ".wma", ".wv",
)  # fmt: skip
"""Suffixes of sound files in other formats; a player does not accept a WAV under these names."""


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


class AtomicSoundFile:
    """A sound file that appears under its name only when it is complete. Not thread-safe; one thread owns it.

    After an error no file remains.

    Raises:
        AudioError: From all methods except ``discard``, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._draft = AtomicFile(resolve_target(self._path))
        except (OSError, ValueError, RuntimeError) as error:
            raise write_error(self._path, error) from error

    @property
    def is_closed(self) -> bool:
        return self._draft.file.closed

    def write(self, data: bytes) -> None:
        """Append data."""
        try:
            self._draft.file.write(data)
        except OSError as error:
            self.discard()
            raise write_error(self._path, error) from error

    def commit(self, head: bytes = b"") -> None:
        """Overwrite the beginning of the file with ``head`` and move the file to its path."""
        try:
            self._draft.file.seek(0)
            self._draft.file.write(head)
            self._draft.commit()
        except OSError as error:
            self.discard()
            raise write_error(self._path, error) from error

    def discard(self) -> None:
        """Remove the unfinished file. Idempotent; no effect after ``commit``."""
        self._draft.discard()


class WavWriter:
    """Writes a WAV file that appears under its name only when it is complete. Not thread-safe; one thread owns it.

    Call ``write`` for each piece, then ``close`` to move the file to its path, or ``discard`` to leave the directory
    unchanged. After an error no file remains.

    Raises:
        AudioError: From all methods except ``discard``, if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], format: Format) -> None:
        self.path = Path(path)
        self.format = format
        self.nbytes = 0
        self._file = AtomicSoundFile(path)
        self._file.write(wav_header(format, None))

    def write(self, pcm: bytes) -> None:
        """Append whole frames."""
        self._file.write(pcm)
        self.nbytes += len(pcm)

    def close(self) -> None:
        """Write the final sizes and move the file to its path. Idempotent; no effect after ``discard``."""
        if not self._file.is_closed:
            self._file.commit(wav_header(self.format, self.nbytes))

    def discard(self) -> None:
        """Remove the unfinished file. Idempotent; no effect after ``close``."""
        self._file.discard()


def check_suffix(path: str | os.PathLike[str], others: Iterable[str] = ()) -> None:
    """Check that ``path`` has no suffix of a sound format other than WAV and the formats in ``others``.

    Args:
        path: The file to write.
        others: Further suffixes that are accepted, with the dot.

    Raises:
        AudioError: The suffix is that of another sound format: a player would not accept a WAV under this name.
    """
    suffix, *choice = Path(path).suffix.lower(), ".wav", *others
    if suffix in _FOREIGN_SUFFIXES and suffix not in choice:
        names = " or ".join(choice) if len(choice) < 3 else f"{', '.join(choice[:-1])} or {choice[-1]}"
        raise AudioError(f"{path} cannot be written: sound files of the type {suffix} are not supported. Use {names}.")


def resolve_target(path: Path) -> Path:
    """Return ``path`` with all symbolic links resolved.

    Raises:
        OSError: A directory of the path cannot be read.
        RuntimeError: The links form a loop.
        ValueError: ``path`` is a device, a pipe or a directory, which the new file would replace.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise ValueError("it is not a regular file")
    return target


def write_error(path: Path, error: Exception) -> AudioError:
    """Return the error of a file that cannot be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return AudioError(f"{path} cannot be written: {reason}. Use a directory with free space and write permission.")

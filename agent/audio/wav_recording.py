"""Writer of a WAV file that can be read while it grows."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

from agent.audio.format import Format
from agent.audio.wav_writer import check_suffix, resolve_target, wav_header, write_error

log = logging.getLogger(__name__)

_HEADER_SECONDS = 1.0
"""Duration of the audio between two updates of the sizes in the header."""


class WavRecording:
    """Writes a WAV file that exists immediately and is valid while it grows. Not thread-safe; one thread owns it.

    The sizes in the header are at most one second of audio behind, also after SIGKILL. An older file with the same name
    is renamed to the next free name: ``reply.wav`` becomes ``reply.1.wav``. An empty older file is deleted.

    Args:
        path: The file.
        format: Format of the audio.

    Raises:
        AudioError: From all methods, if the file cannot be written; from the constructor, if the suffix of ``path`` is
            that of another sound format.
    """

    def __init__(self, path: Path, format: Format) -> None:
        self.path, self.format = path, format
        check_suffix(path)
        self._nbytes = self._header_nbytes = 0
        try:
            target = resolve_target(path)
            _keep_older(target)
            self._file = open(target, "xb", buffering=0)  # noqa: SIM115 - closed by close()
            self._file.write(wav_header(format, 0))
        except (OSError, ValueError, RuntimeError) as error:
            raise write_error(path, error) from error

    def write(self, pcm: bytes) -> None:
        """Append whole frames."""
        try:
            view = memoryview(pcm)
            while view:
                written = self._file.write(view)
                self._nbytes += written
                view = view[written:]
            if self.format.seconds_of(self._nbytes - self._header_nbytes) >= _HEADER_SECONDS:
                self.flush()
        except OSError as error:
            raise write_error(self.path, error) from error

    def flush(self) -> None:
        """Write the current sizes into the header."""
        if self._nbytes == self._header_nbytes:
            return
        try:
            os.pwrite(self._file.fileno(), wav_header(self.format, self._nbytes), 0)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._header_nbytes = self._nbytes

    def close(self) -> None:
        """Write the final sizes. Idempotent."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()


def _keep_older(path: Path) -> None:
    """Rename an existing file to the next free name; delete it if it is empty. Raises ``OSError``."""
    if not path.exists() or not path.stat().st_size:
        path.unlink(missing_ok=True)
        return
    for number in itertools.count(1):
        name = path.with_name(f"{path.stem}.{number}{path.suffix}")
        if not name.exists():
            path.rename(name)
            log.info("recording: older file kept, path=%s, kept_as=%s", path, name)
            return

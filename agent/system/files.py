"""Writes files atomically: a reader sees the old or the new file, even if the process is killed during the write."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from types import TracebackType

_DESCRIPTORS = "/proc/self/fd"
_NO_TMPFILE_ERRORS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class AtomicFile:
    """A new file that replaces ``path`` at ``commit``. Not thread-safe; owned by the writing thread.

    Before ``commit`` the file has no name (O_TMPFILE), so nothing is left after ``discard``, after the ``with`` block,
    or after SIGKILL. During ``commit``, on file systems without O_TMPFILE (such as FAT), and without /proc, the file
    has the temporary name ``.NAME.XXXXXXXX.part``, which remains after SIGKILL.

    ``file`` is open for writing bytes. The constructor, the methods of ``file``, and ``commit`` raise ``OSError``;
    ``discard`` does not.

    Args:
        path: The file to create or replace.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: Path | None = None
        descriptor = _open_unnamed(path.parent)
        if descriptor is None:
            temporary = self._temporary_path()
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            self._temporary = temporary
        self.file = os.fdopen(descriptor, "wb")

    def commit(self, *, durable: bool = False) -> None:
        """Rename the file to ``path`` and close it. The file gets the mode of the file that it replaces.

        Args:
            durable: Whether to write the data to the disk before the rename, so that ``path`` is complete (old or
                new) after a power failure.
        """
        self.file.flush()
        descriptor = self.file.fileno()
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(self._path.stat().st_mode))
        if durable:
            os.fsync(descriptor)
        if self._temporary is None:
            temporary = self._temporary_path()
            # src_dir_fd makes Python call linkat() with AT_SYMLINK_FOLLOW, which the link in /proc needs (open(2)).
            os.link(f"{_DESCRIPTORS}/{descriptor}", temporary, src_dir_fd=descriptor, follow_symlinks=True)
            self._temporary = temporary
        self.file.close()
        os.replace(self._temporary, self._path)
        self._temporary = None

    def discard(self) -> None:
        """Drop the file. Idempotent; no effect after ``commit``."""
        temporary, self._temporary = self._temporary, None
        with contextlib.suppress(OSError):  # a full disk; the data is dropped anyway
            self.file.close()
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def _temporary_path(self) -> Path:
        return self._path.with_name(f".{self._path.name[:100]}.{os.urandom(4).hex()}.part")


def _open_unnamed(directory: Path) -> int | None:
    if not os.path.isdir(_DESCRIPTORS):
        return None
    try:
        return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_TMPFILE_ERRORS:
            return None
        raise

"""Reports new and changed files of directories, with the kernel's inotify."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_IN_ATTRIB, _IN_MOVED_TO, _IN_CREATE = 0x4, 0x80, 0x100
_READ_BYTES = 1 << 16


class DirectoryWatch:
    """A descriptor that is readable after a file of a directory was created, or got other permissions.

    Not thread-safe; owned by the thread that waits for it.

    Raises:
        OSError: The limit of the user for inotify is reached.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path: str) -> bool:
        """Watch a directory. Idempotent. Returns whether it exists and may be read."""
        mask = _IN_ATTRIB | _IN_MOVED_TO | _IN_CREATE
        return bool(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask) >= 0)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Forget the reports so far: the caller reads the directories again."""
        with suppress(BlockingIOError):
            while os.read(self._fd, _READ_BYTES):
                pass

    def close(self) -> None:
        os.close(self._fd)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

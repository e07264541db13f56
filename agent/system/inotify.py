"""Reports new files, and changed permissions of files, in directories (inotify(7))."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_IN_ATTRIB, _IN_MOVED_TO, _IN_CREATE = 0x4, 0x80, 0x100
_READ_BYTES = 1 << 16


class DirectoryWatch:
    """A descriptor that becomes readable when a file in a watched directory is created or changes its permissions.

    Not thread-safe; owned by the thread that waits for it.

    Raises:
        OSError: The user has reached the limit of inotify instances.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path: str) -> bool:
        """Watch a directory; return whether the kernel can watch it: it exists and is readable. Idempotent."""
        mask = _IN_ATTRIB | _IN_MOVED_TO | _IN_CREATE
        return bool(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask) >= 0)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Discard the pending reports. The caller then reads the directories again."""
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

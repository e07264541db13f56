"""Files that are there whole or not at all, also where the process is killed while it writes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from types import TracebackType

_HANDLES = "/proc/self/fd"
_NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class AtomicFile:
    """A file in the making, on the disk of ``place`` but without a name: ``put`` gives it that, and takes the place of
    the file that was there. Whatever ends it otherwise (``drop``, ``with``, the end of the process, also by SIGKILL)
    leaves nothing. Where there are no files without a name (on FAT, or without /proc), it has one meanwhile
    (``.NAME.….part``), which a SIGKILL leaves.

    ``file`` is open for writing. All of it raises ``OSError`` as files do; ``drop`` never does.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._name: Path | None = None
        handle = _nameless(place.parent)
        if handle is None:
            name = self._beside()
            handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            self._name = name
        self.file = os.fdopen(handle, "wb")

    def commit(self, *, durable: bool = False) -> None:
        """Puts it in its place, with the mode of what was there. ``durable``: also where the power goes right after."""
        self.file.flush()
        handle = self.file.fileno()
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(handle, stat.S_IMODE(self._place.stat().st_mode))
        if durable:
            os.fsync(handle)
        if self._name is None:
            name = self._beside()
            # Only with a folder given is the link in /proc followed; an absolute path takes no notice of which.
            os.link(f"{_HANDLES}/{handle}", name, src_dir_fd=handle, follow_symlinks=True)
            self._name = name
        self.file.close()
        os.replace(self._name, self._place)
        self._name = None

    def discard(self) -> None:
        """Leaves nothing. Safe twice, and after ``put`` without effect."""
        name, self._name = self._name, None
        with contextlib.suppress(OSError):  # what cannot be flushed (a full disk) was to be thrown away
            self.file.close()
        if name is not None:
            with contextlib.suppress(OSError):
                name.unlink()

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def _beside(self) -> Path:
        return self._place.with_name(f".{self._place.name[:100]}.{os.urandom(4).hex()}.part")


def _nameless(folder: Path) -> int | None:
    if not os.path.isdir(_HANDLES):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_NAMELESS_FILES:
            return None
        raise

"""Keeps a process working when its standard streams are closed, broken or full."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import sys
from typing import Any

_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def open_missing_streams() -> None:
    """Connect closed standard streams (such as with ``2>&-``) to /dev/null.

    Python sets a closed stream to ``None``. The next opened file or socket would get the free descriptor, and C
    libraries would write their output to that file or socket.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - stays open
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


class _OptionalOutput(io.FileIO):
    """A file that drops data that cannot be written. Thread-safe, as its base class."""

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size  # None: a descriptor that does not block is full
        except OSError:
            return size


def make_stderr_optional() -> None:
    """Drop messages if standard error is closed or full, so that results and exit codes do not change.

    Has no effect if other code has replaced ``sys.stderr``, as tests do.
    """
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        output = _OptionalOutput(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(output), sys.stderr.encoding, "backslashreplace", line_buffering=True
        )


def flush_stdout() -> None:
    """Flush standard output now, because an error of the flush at exit cannot be reported properly.

    Raises:
        OSError: Standard output cannot be written.
    """
    sys.stdout.flush()


def discard_stdout() -> None:
    """Drop all unwritten output, including the output that the interpreter flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def describe_write_error(error: OSError) -> str | None:
    """Return a message if ``error`` means that standard output cannot be written; ``None`` for any other error."""
    if error.filename is not None:
        return None
    if error.errno == errno.EBADF:  # also the error for a descriptor that this program has closed
        return None if _is_stdout_writable() else "standard output cannot be written: it is open for reading only"
    if error.errno not in _FULL_ERRORS:
        return None
    return f"standard output cannot be written: {error.strerror}"


def _is_stdout_writable() -> bool:
    try:
        return fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except (OSError, ValueError):
        return True  # closed, or replaced by an object without a descriptor

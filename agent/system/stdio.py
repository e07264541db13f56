"""Handles standard streams that are closed, broken or full."""

from __future__ import annotations

import errno
import os
import sys

_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def open_missing_streams() -> None:
    """Connect closed standard streams (such as with ``2>&-``) to /dev/null.

    Python sets a closed stream to ``None``, and the next opened file or socket gets its descriptor, so that output of
    other code would be written there.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - stays open
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def flush_stdout() -> None:
    """Flush standard output now: an error at the exit of the interpreter cannot be reported properly."""
    sys.stdout.flush()


def discard_stdout() -> None:
    """Drop all unwritten output, including that of the exit of the interpreter."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def describe_write_error(error: OSError) -> str | None:
    """Return a message if standard output could not be written, ``None`` for any other error."""
    if error.errno not in _FULL_ERRORS or error.filename is not None:
        return None
    return f"standard output cannot be written: {error.strerror}"

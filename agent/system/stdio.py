"""The three standard streams, in whatever state a shell has left them: closed, or with no room behind them."""

from __future__ import annotations

import errno
import os
import sys

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def open_missing_streams() -> None:
    """A stream that was closed (``2>&-``) leads nowhere: Python has ``None`` in its place, and the next file or socket
    that is opened would get its number, and what others print there."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - it stays open
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def flush_stdout() -> None:
    """Whether what was printed has arrived is known only now; at the exit nobody could be told in good order."""
    sys.stdout.flush()


def discard_stdout() -> None:
    """What is still to be written to standard output goes nowhere, also at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def describe_write_error(error: OSError) -> str | None:
    """A sentence where ``error`` says that standard output took no more; ``None`` where it is about something else."""
    if error.errno not in _NO_ROOM or error.filename is not None:
        return None
    return f"standard output cannot be written: {error.strerror}"

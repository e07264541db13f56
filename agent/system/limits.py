"""Raises the limit of open file descriptors, and describes the error when no descriptor is free."""

from __future__ import annotations

import errno
import os

from agent.errors import ConfigError

MIN_DESCRIPTORS = 64
"""A turn with the local speech server needs 28 descriptors (measured); each client of the daemon needs one more."""

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_CURE = "Raise it with `ulimit -n 1024`, or with LimitNOFILE=1024 in the unit of a service."


def require_descriptors(minimum: int = MIN_DESCRIPTORS) -> None:
    """Raise the soft limit of descriptors to ``minimum`` if it is lower.

    Without a free descriptor a library can fail at any point. For example libjack, which PortAudio loads, leaves a lock
    in /dev/shm that blocks every later start of PortAudio (measured with a limit of 10).

    Raises:
        ConfigError: The hard limit is lower than ``minimum``.
    """
    if os.sysconf("SC_OPEN_MAX") >= minimum:
        return
    import resource  # almost never needed

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < minimum:
        raise ConfigError(
            f"too few open files are allowed: the limit is {hard}, and voice-agent needs at least {minimum}. {_CURE}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (minimum, hard))


def describe_no_descriptor(error: BaseException) -> str | None:
    """Return a message if ``error`` means that no descriptor is free; ``None`` for any other error."""
    if not isinstance(error, OSError) or error.errno not in _NO_DESCRIPTOR:
        return None
    if error.errno == errno.ENFILE:
        return "no file can be opened: the system has reached its limit of open files. End other programs."
    return f"no file can be opened: the limit of {os.sysconf('SC_OPEN_MAX')} open files is reached. {_CURE}"

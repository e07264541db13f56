"""The limit of open file descriptors: checked before a command needs them, and named when none is left."""

from __future__ import annotations

import errno
import os

from agent.errors import ConfigError

MIN_DESCRIPTORS = 64
"""A turn with the local speech server needs 28 (measured); each client of the daemon needs one more."""

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_CURE = "Raise it with `ulimit -n 1024`, or with LimitNOFILE=1024 in the unit of a service."


def require_descriptors(minimum: int = MIN_DESCRIPTORS) -> None:
    """Raise the soft limit of descriptors to ``minimum`` if it is lower.

    Without enough descriptors a library fails at any line: libjack, which PortAudio loads, then leaves a lock in
    /dev/shm that blocks every later start of PortAudio (measured with a limit of 10).

    Raises:
        ConfigError: If the hard limit is lower.
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
    """Return a message if the process or the system has no free descriptor, ``None`` for any other error."""
    if not isinstance(error, OSError) or error.errno not in _NO_DESCRIPTOR:
        return None
    if error.errno == errno.ENFILE:
        return "no file can be opened: the system has reached its limit of open files. End other programs."
    return f"no file can be opened: the limit of {os.sysconf('SC_OPEN_MAX')} open files is reached. {_CURE}"

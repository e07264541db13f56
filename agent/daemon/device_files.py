"""Converts errors of the files and libraries of sound devices to configuration errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from agent.errors import AudioError, ConfigError

_PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
)  # fmt: skip
"""Temporary errors, after which a restart may help: a full or slow disk, or no free descriptor or memory."""


@contextlib.contextmanager
def device_files(key: str) -> Iterator[None]:
    """Convert an ``AudioError`` of the block, which opens a device, to a ``ConfigError``.

    Args:
        key: The key that names the device.

    Raises:
        ConfigError: The file is not a WAV file, or cannot be read or written, or a library is missing.
        AudioError: The file cannot be used because of a temporary error of the system.
    """
    try:
        yield
    except AudioError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING:
            raise
        raise ConfigError(f"{key}: {error}") from error

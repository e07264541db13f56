"""The files and libraries that the configured sound devices need."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from agent.errors import AudioError, ConfigError

_PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
)  # fmt: skip
"""A restart may help: the disk has room again, or answers, or the process has descriptors or memory again."""


@contextlib.contextmanager
def device_files(key: str) -> Iterator[None]:
    """Turn an ``AudioError`` of the block, which opens a device, into an error of the configuration.

    Args:
        key: The key that names the device.

    Raises:
        ConfigError: The file is no WAV, or cannot be read or written, or a library is missing.
    """
    try:
        yield
    except AudioError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING:
            raise
        raise ConfigError(f"{key}: {error}") from error

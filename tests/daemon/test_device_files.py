from __future__ import annotations

import errno
import os

import pytest

from agent.daemon.device_files import device_files
from agent.errors import AudioError, ConfigError


def _fail(code: int) -> None:
    with device_files("microphone.device"):
        raise AudioError("the file cannot be read") from OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE])
def test_an_error_that_a_restart_may_end_is_none_of_the_configuration(code: int) -> None:
    with pytest.raises(AudioError):
        _fail(code)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.EROFS])
def test_a_file_that_cannot_be_used_is_an_error_of_the_configuration(code: int) -> None:
    with pytest.raises(ConfigError, match="microphone.device: the file cannot be read"):
        _fail(code)

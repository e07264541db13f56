"""AtomicFile: complete or absent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.system.files import AtomicFile


@pytest.fixture(params=["O_TMPFILE", "temporary name"])
def directory(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with and without support for O_TMPFILE."""
    if request.param == "temporary name":
        real_open = os.open

        def open_without_tmpfile(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real_open(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", open_without_tmpfile)
    return tmp_path


def test_file_is_replaced_only_by_commit(directory: Path) -> None:
    path = directory / "x.wav"
    path.write_bytes(b"before")
    with AtomicFile(path) as file:
        file.file.write(b"after")
        assert path.read_bytes() == b"before"
        file.commit(durable=True)
        assert path.read_bytes() == b"after"
    assert [each.name for each in directory.iterdir()] == ["x.wav"] and path.read_bytes() == b"after"


def test_discard_leaves_no_file(directory: Path) -> None:
    path = directory / "x.wav"
    with pytest.raises(KeyError), AtomicFile(path) as file:
        file.file.write(b"half")
        raise KeyError
    file.discard()
    assert list(directory.iterdir()) == []


def test_failed_commit_leaves_no_file(directory: Path) -> None:
    path = directory / "x"
    path.mkdir()
    with pytest.raises(IsADirectoryError), AtomicFile(path) as file:
        file.commit()
    assert [each.name for each in directory.iterdir()] == ["x"]


def test_mode_is_that_of_the_replaced_file_or_the_umask(directory: Path) -> None:
    old, new = directory / "old", directory / "new"
    old.write_bytes(b"")
    old.chmod(0o640)
    mask = os.umask(0o027)
    try:
        for path in (old, new):
            with AtomicFile(path) as file:
                file.commit()
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in (old, new)] == [0o640, 0o640]


def test_missing_directory_raises_file_not_found(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AtomicFile(directory / "nowhere" / "x")


def test_name_of_maximum_length_is_supported(directory: Path) -> None:
    path = directory / ("x" * 255)
    with AtomicFile(path) as file:
        file.commit()
    assert path.exists()


def test_killed_process_leaves_no_file() -> None:
    program = (
        "import sys; from pathlib import Path; from agent.system.files import AtomicFile\n"
        "file = AtomicFile(Path(sys.argv[1])); file.file.write(bytes(100000)); file.file.flush()\n"
        "print('half', flush=True); sys.stdin.read()"
    )
    # tmpfs supports O_TMPFILE on every machine.
    path = Path("/dev/shm") / f"voice-agent-draft-{os.getpid()}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, str(path)], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == b"half\n"
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert list(path.parent.glob(f"*{path.name}*")) == []

"""Files in the making: whole in their place, or nowhere."""

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


@pytest.fixture(params=["without a name", "with one"])
def folder(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of either kind of file system."""
    if request.param == "with one":
        really = os.open

        def fat(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return really(path, flags, *more, **named)

        monkeypatch.setattr(os, "open", fat)
    return tmp_path


def test_it_is_not_seen_in_its_place_before_it_is_whole(folder: Path) -> None:
    place = folder / "x.wav"
    place.write_bytes(b"before")
    with AtomicFile(place) as draft:
        draft.file.write(b"after")
        assert place.read_bytes() == b"before"
        draft.commit(durable=True)
        assert place.read_bytes() == b"after"
    assert [path.name for path in folder.iterdir()] == ["x.wav"] and place.read_bytes() == b"after"


def test_what_is_dropped_leaves_nothing(folder: Path) -> None:
    place = folder / "x.wav"
    with pytest.raises(KeyError), AtomicFile(place) as draft:
        draft.file.write(b"half")
        raise KeyError
    draft.discard()
    assert list(folder.iterdir()) == []


def test_what_cannot_be_put_in_its_place_leaves_nothing(folder: Path) -> None:
    place = folder / "x"
    place.mkdir()
    with pytest.raises(IsADirectoryError), AtomicFile(place) as draft:
        draft.commit()
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_it_has_the_mode_of_what_it_replaces_else_what_the_user_gives_new_files(folder: Path) -> None:
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"")
    old.chmod(0o640)
    mask = os.umask(0o027)
    try:
        for place in (old, new):
            with AtomicFile(place) as draft:
                draft.commit()
    finally:
        os.umask(mask)
    assert [place.stat().st_mode & 0o777 for place in (old, new)] == [0o640, 0o640]


def test_a_folder_that_is_not_there_is_told_as_for_any_file(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AtomicFile(folder / "nowhere" / "x")


def test_a_name_as_long_as_names_may_be_is_none_too_long(folder: Path) -> None:
    place = folder / ("x" * 255)
    with AtomicFile(place) as draft:
        draft.commit()
    assert place.exists()


def test_a_process_that_is_killed_leaves_nothing() -> None:
    """Every recording and every export that was killed in the middle left what it had, under a hidden name."""
    program = (
        "import sys; from pathlib import Path; from agent.system.files import Draft\n"
        "draft = Draft(Path(sys.argv[1])); draft.file.write(bytes(100000)); draft.file.flush()\n"
        "print('half', flush=True); sys.stdin.read()"
    )
    # In memory: there are files without a name wherever this runs.
    place = Path("/dev/shm") / f"voice-agent-draft-{os.getpid()}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, str(place)], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == b"half\n"
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert list(place.parent.glob(f"*{place.name}*")) == []

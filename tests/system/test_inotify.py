from __future__ import annotations

import select
from pathlib import Path

from agent.system.inotify import DirectoryWatch


def is_readable(watch: DirectoryWatch) -> bool:
    return bool(select.select([watch], [], [], 0)[0])


def test_new_files_and_permissions_are_reported_until_they_are_drained(tmp_path: Path) -> None:
    watch = DirectoryWatch()
    assert watch.add(str(tmp_path))
    assert not is_readable(watch)
    file = tmp_path / "event0"
    for change in (file.touch, lambda: file.chmod(0o600), lambda: file.rename(tmp_path / "event1")):
        change()
        assert is_readable(watch)
        watch.drain()
        assert not is_readable(watch)
    watch.close()


def test_a_directory_that_does_not_exist_is_not_watched(tmp_path: Path) -> None:
    watch = DirectoryWatch()
    assert not watch.add(str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    assert watch.add(str(tmp_path / "input"))
    watch.close()

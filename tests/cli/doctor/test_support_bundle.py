"""The support archive: its owner, its mode and the masking of secrets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.doctor.support_bundle import mask, write_bundle
from agent.errors import UsageError
from agent.settings.loader import Loaded
from agent.settings.model import Config

USER = 1234


@pytest.fixture
def user_folder() -> Iterator[Path]:
    """A directory of the user who typed sudo; without root, of the user who runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, USER, USER)
        yield Path(name)


def write(path: Path) -> None:
    write_bundle(path, Loaded(Config()), [], {"SUDO_UID": str(USER), "SUDO_GID": str(USER)})


def test_under_sudo_the_archive_belongs_to_the_user(user_folder: Path) -> None:
    write(user_folder / "support.tar.gz")
    assert (user_folder / "support.tar.gz").stat().st_uid == (os.geteuid() or USER)


def test_under_sudo_no_existing_file_changes_its_owner(tmp_path: Path, user_folder: Path) -> None:
    other = tmp_path / "other"
    other.write_text("root's own")
    (user_folder / "support.tar.gz").symlink_to(other)
    with pytest.raises(UsageError):
        write(user_folder / "support.tar.gz")
    assert other.read_text() == "root's own"
    write(other)
    assert other.stat().st_uid == os.geteuid()


def test_a_file_open_in_another_process_does_not_become_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "support.tar.gz"
    path.touch(0o666)
    with path.open("rb") as reader:
        write(path)
        assert reader.read() == b"" and path.stat().st_size > 0


@pytest.mark.parametrize("form", ["a/b+c key", "a%2Fb%2Bc%20key"])
def test_mask_replaces_each_form_of_a_secret(form: str) -> None:
    assert mask(f"x{form}y", ["a/b+c key"]) == "x***y"

"""Tests of the tree that is kept for the next start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config.tree_cache import FILE_NAME, TreeCache
from agent.config.yaml_tree import read_tree
from agent.errors import ConfigError
from agent.settings.loader import load_with_origins

NAME = "config.yaml"
DOCUMENT = b"""
conversation: {mode: announce, silence_seconds: [0.3, 0.7, 1.2]}  # a comment
synthesis: &all
  services: [local, "fish"]
  fish: {api_key: ~}
other: *all
"""


@pytest.fixture
def cache(tmp_path: Path) -> TreeCache:
    tree, issues = read_tree(DOCUMENT, NAME)
    assert tree is not None and not issues
    made = TreeCache(tmp_path / "cache")
    made.write(DOCUMENT, NAME, tree)
    return made


def test_the_same_document_has_the_same_tree(cache: TreeCache) -> None:
    assert cache.read(DOCUMENT, NAME) == read_tree(DOCUMENT, NAME)[0]


def test_another_document_or_file_is_read_again(cache: TreeCache) -> None:
    assert cache.read(DOCUMENT + b"\n", NAME) is None
    assert cache.read(DOCUMENT, "other.yaml") is None


def test_the_file_is_private(cache: TreeCache, tmp_path: Path) -> None:
    file = tmp_path / "cache" / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    assert cache.read(DOCUMENT, NAME) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_not_used(cache: TreeCache, tmp_path: Path) -> None:
    os.chown(tmp_path / "cache" / FILE_NAME, 65534, 65534)
    assert cache.read(DOCUMENT, NAME) is None


@pytest.mark.parametrize("damage", [b"", b"\0", b"(", b"i\1\0\0\0"])
def test_a_damaged_file_is_not_used(cache: TreeCache, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "cache" / FILE_NAME).write_bytes(damage)
    assert cache.read(DOCUMENT, NAME) is None


def test_a_truncated_file_is_not_used(cache: TreeCache, tmp_path: Path) -> None:
    file = tmp_path / "cache" / FILE_NAME
    file.write_bytes(file.read_bytes()[:-5])
    assert cache.read(DOCUMENT, NAME) is None


def test_a_file_with_a_flipped_bit_is_not_used(cache: TreeCache, tmp_path: Path) -> None:
    file = tmp_path / "cache" / FILE_NAME
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        assert cache.read(DOCUMENT, NAME) is None


def test_a_directory_that_cannot_be_made_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = TreeCache(tmp_path / "file" / "cache")
    tree, _ = read_tree(DOCUMENT, NAME)
    assert tree is not None
    cache.write(DOCUMENT, NAME, tree)
    assert cache.read(DOCUMENT, NAME) is None


def test_errors_are_reported_at_each_load(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text("shutdown_seconds: [\n")
    file.chmod(0o600)
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"{NAME}:"):
            load_with_origins(file, {}, TreeCache(tmp_path))
    file.write_text("shutdown_seconds: 0\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"{NAME}:1"):
            load_with_origins(file, {}, TreeCache(tmp_path))


def test_the_second_load_imports_no_parser(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text("conversation: {mode: announce}\n")
    code = (
        "import sys; from pathlib import Path; from agent.settings.loader import load_with_origins as load;"
        "from agent.config.tree_cache import TreeCache;"
        f"loaded = load({str(file)!r}, {{}}, TreeCache(Path({str(tmp_path)!r})));"
        "print(loaded.config.conversation.mode, loaded.origins['conversation.mode'], 'yaml' in sys.modules)"
    )
    lines = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)]
    assert lines == [f"announce {file}:1 True\n", f"announce {file}:1 False\n"]

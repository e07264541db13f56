"""Keeps the tree of the last configuration file, so that the next start needs no YAML parser."""

from __future__ import annotations

import binascii
import contextlib
import marshal
import os
import stat
from pathlib import Path
from typing import Any

from agent import __version__
from agent.config.tree import MAX_BYTES, Mapping, Scalar, Sequence, Tree

FILE_NAME = "config-tree"
MAX_FILE_BYTES = 64 * MAX_BYTES
_FORMAT = f"{__version__} 2"
_CHECK_BYTES = 4


class TreeCache:
    """Keeps one tree in a file, with the whole text of its document. Not thread-safe.

    PyYAML takes a fifth of the start time of the daemon: to import its modules, and to compile a regular expression.
    The kept tree is used only for the same text and the same version of voice-agent. The file belongs to the user of
    this process, and no other user can read or write it, because it contains the text of the configuration file. Errors
    of the cache are ignored; the document is then parsed.

    Args:
        directory: Directory of the file; created if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    def read(self, data: bytes, name: str) -> Tree | None:
        """Return the tree of a document; ``None`` if the cache does not have it.

        Args:
            data: The document.
            name: The name of its file, which is part of the places in the tree.
        """
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())
                is_private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
                if not is_private or not stat.S_ISREG(status.st_mode):
                    return None
                check, content = file.read(_CHECK_BYTES), file.read(MAX_FILE_BYTES)
            # Checked first: marshal may crash on a file that a power failure has damaged.
            if check != _check(content):
                return None
            kept = marshal.loads(content)
            return _tree(kept[3]) if kept[:3] == (_FORMAT, name, data) else None
        except (OSError, ValueError, EOFError, TypeError, IndexError):
            return None

    def write(self, data: bytes, name: str, tree: Tree) -> None:
        """Keep the tree of a document without errors."""
        from agent.system.files import AtomicFile  # most starts write nothing

        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with AtomicFile(self._path) as new:
                os.fchmod(new.file.fileno(), 0o600)
                content = marshal.dumps((_FORMAT, name, data, _plain(tree)))
                new.file.write(_check(content) + content)
                new.commit()


def _check(content: bytes) -> bytes:
    return binascii.crc32(content).to_bytes(_CHECK_BYTES, "big")


def _plain(tree: Tree) -> Any:
    """Return the tree as built-in types, because marshal writes no others."""
    if isinstance(tree, Scalar):
        return tuple(tree)
    if isinstance(tree, Sequence):
        return tree.where, [_plain(item) for item in tree.items]
    return tree.where, {name: (where, _plain(value)) for name, (where, value) in tree.entries.items()}


def _tree(plain: Any) -> Tree:
    if len(plain) > 2:
        return Scalar(*plain)
    where, content = plain
    if isinstance(content, list):
        return Sequence(where, [_tree(item) for item in content])
    return Mapping(where, {name: (of_name, _tree(value)) for name, (of_name, value) in content.items()})

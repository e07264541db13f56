"""Serves the files of ``web.directory``."""

from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote

from agent.system.named_tuple import NamedTuple

INDEX = "index.html"
MAX_PATH_CHARACTERS = 1024
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".gif": "image/gif",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".ogg": "audio/ogg",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}


class StaticFile(NamedTuple):
    """An open file. Not thread-safe; the thread that opened it closes ``file``. ``size`` is in bytes."""

    file: BinaryIO
    size: int
    content_type: str


def open_static(directory: str, path: str) -> StaticFile | None:
    """Open a file below a directory.

    Symbolic links below the directory are not followed, and names that begin with a dot are not served. So no path can
    leave the directory.

    Args:
        directory: The directory.
        path: The path from the URL, relative to the directory. A path that ends with a slash names ``index.html``.

    Returns:
        The open file; ``None`` if there is no such file, or it may not be served.
    """
    parts = _parts(path)
    if parts is None:
        return None
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            descriptor = _open_below(descriptor, part, os.O_DIRECTORY)
        # Without O_NONBLOCK, opening a named pipe would block until another process opens it for writing.
        descriptor = _open_below(descriptor, parts[-1], os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    information = os.fstat(descriptor)
    if not stat.S_ISREG(information.st_mode):
        os.close(descriptor)
        return None
    content_type = TYPES.get(PurePosixPath(parts[-1]).suffix.lower(), "application/octet-stream")
    return StaticFile(os.fdopen(descriptor, "rb"), information.st_size, content_type)


def is_directory(directory: str, path: str) -> bool:
    """Return whether a path names a directory that may be served. The path is from a URL and ends without a slash."""
    parts = _parts(f"{path}/{INDEX}")
    return parts is not None and os.path.isdir(os.path.join(directory, *parts[:-1]))


def _parts(path: str) -> list[str] | None:
    """Return the decoded names in a path from a URL; ``None`` if the path may not be served."""
    if len(path) > MAX_PATH_CHARACTERS:
        return None
    try:
        path = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return None
    if path == "" or path.endswith("/"):
        path += INDEX
    parts = path.split("/")
    if any(not part or part.startswith(".") or not part.isprintable() or "\\" in part for part in parts):
        return None
    return parts


def _open_below(parent: int, name: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    finally:
        os.close(parent)

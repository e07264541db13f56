"""Whether there is room, and leave, to write what has to be remembered."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from agent.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding
from agent.service import Paths

PROBE_BYTES = 256 * 1024
LITTLE_BYTES = 50 * 1024 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_disk(paths: Paths) -> list[Finding]:
    """The state and the cache directory, or where they will be made: written to for real, and left as they were."""
    return [_check(name, place) for name, place in (("state", paths.state), ("cache", paths.cache))]


def _check(name: str, place: Path) -> Finding:
    subject = f"disk, {name}"
    there = next(each for each in (place, *place.parents) if each.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            left = PROBE_BYTES
            while left:
                left -= file.write(bytes(left))
            os.fsync(file.fileno())
        free = os.statvfs(there)
    except OSError as error:
        if error.errno in _FULL:
            cure = f"df -h {there}; make room: sudo apt clean; sudo journalctl --vacuum-size=50M"
            return Finding(subject, BROKEN, f"no room in {there}: {error.strerror}", cure)
        if error.errno == errno.EROFS:
            cure = f"sudo mount -o remount,rw $(findmnt -nT {there} -o TARGET)"
            return Finding(subject, BROKEN, f"{there} is read-only", cure)
        cure = f"sudo chown -R {os.geteuid()} {there}"
        return Finding(subject, BROKEN, f"{there} cannot be written: {error.strerror}", cure)
    room = free.f_bavail * free.f_frsize
    saw = f"{there} can be written, {room // (1024 * 1024)} MiB are free"
    if room < LITTLE_BYTES:
        return Finding(subject, DOUBTFUL, saw, f"df -h {there}; sudo apt clean; sudo journalctl --vacuum-size=50M")
    return Finding(subject, FINE, saw)

"""Shared by the benchmarks that run processes: their environment and their CPU time."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple


def clean_environment(folder: Path) -> dict[str, str]:
    """Return the environment without settings of this machine's user; ``folder`` holds all files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICE_AGENT_", "PYTHON"))}
    directories = {"STATE_DIRECTORY": str(folder), "CACHE_DIRECTORY": str(folder / "cache")}
    return kept | directories | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all its threads, also those that have ended."""
    return time.clock_gettime((~pid << 3) | 2)  # the number of its clock, as clock_getcpuclockid(3) computes it


def wakeups(pid: int) -> dict[str, int]:
    """Return the voluntary context switches of each thread of a process."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found[thread.name] = _number(thread / "status", "voluntary_ctxt_switches")
    return found


def wakeups_since(pid: int, before: dict[str, int]) -> int:
    """Return the voluntary context switches since ``wakeups``, without those of threads that have ended meanwhile."""
    return sum(count - before.get(thread, 0) for thread, count in wakeups(pid).items())


class Size(NamedTuple):
    """The resources of a process: resident memory in MiB, threads and descriptors."""

    mib: float
    threads: int
    descriptors: int


def size(pid: int, *, peak: bool = False) -> Size:
    """Return the size of a process, with its peak memory or the current one."""
    status = Path(f"/proc/{pid}/status")
    memory = _number(status, "VmHWM" if peak else "VmRSS") / 1024
    return Size(memory, _number(status, "Threads"), len(os.listdir(f"/proc/{pid}/fd")))


def _number(path: Path, field: str) -> int:
    lines = path.read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)

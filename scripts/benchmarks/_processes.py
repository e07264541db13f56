"""Shared by the benchmarks that run processes: their environment and their CPU time."""

from __future__ import annotations

import os
from pathlib import Path


def clean_environment(folder: Path) -> dict[str, str]:
    """Return the environment without settings of this machine's user; ``folder`` holds state and compiled modules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICE_AGENT_", "PYTHON"))}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "compiled"), "STATE_DIRECTORY": str(folder)}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, from the kernel's scheduler."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

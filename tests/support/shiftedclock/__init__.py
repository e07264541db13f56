"""A wall clock for other processes that can be set while they run: see ``shifted_clock.c``."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("shifted_clock.c")


class ShiftedClock:
    """``env`` is what a process needs to live by it; ``shift`` sets it, in seconds from the true time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shift"
        self.shift(0)
        library = folder / "shifted_clock.so"
        build = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(_SOURCE)]
        done = subprocess.run(build, capture_output=True, text=True)
        assert done.returncode == 0, f"the shifted clock needs gcc: {done.stderr}"
        self.env = {"LD_PRELOAD": str(library), "SHIFT_FILE": str(self._file)}

    def shift(self, seconds: int) -> None:
        # In place: the processes have it mapped.
        with open(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            file.write(struct.pack("@l", seconds))

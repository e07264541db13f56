"""An adjustable wall clock for other processes (``shifted_clock.c``)."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("shifted_clock.c")


class ShiftedClock:
    """``env``: the environment for a process with this clock; ``shift``: sets its offset in seconds."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shift"
        self.shift(0)
        library = folder / "shifted_clock.so"
        build = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(_SOURCE)]
        done = subprocess.run(build, capture_output=True, text=True)
        assert done.returncode == 0, f"the shifted clock needs gcc: {done.stderr}"
        self.env = {"LD_PRELOAD": str(library), "SHIFT_FILE": str(self._file)}

    def shift(self, seconds: int) -> None:
        # Written in place, because the processes have mapped the file.
        with open(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            file.write(struct.pack("@l", seconds))

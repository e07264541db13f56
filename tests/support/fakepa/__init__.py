"""A fake PortAudio library with faults on demand, for the real PyAudio in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("fake_portaudio.c")


class FakePortAudio:
    """The library's folder, and the environment ``env`` for a process that uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"LD_LIBRARY_PATH": str(compiled().parent), "FPA_DIR": str(folder)}

    def order(self, *lines: str) -> None:
        """Write a new script of faults; the call counts restart when PortAudio is initialized next."""
        new = self.folder / "script.new"
        new.write_text("".join(f"{line}\n" for line in lines))
        os.replace(new, self.folder / "script")

    def set(self, name: str, value: str | None) -> None:
        """Set the switch ``gone``, ``shift``, ``takes``, ``speed`` or ``spam``; ``None`` removes it."""
        if value is None:
            (self.folder / name).unlink(missing_ok=True)
        else:
            (self.folder / name).write_text(value)

    def heard(self) -> bytes:
        """Return all accepted frames."""
        return self._bytes("heard.raw")

    def calls(self, function: str) -> list[tuple[float, int, str]]:
        """Return the calls of ``init``, ``terminate``, ``open`` or ``close``: monotonic time, result and argument."""
        lines = [line.split(" ", 3) for line in self._bytes("calls").decode().splitlines()]
        return [(float(line[0]), int(line[2]), line[3]) for line in lines if line[1] == function]

    def _bytes(self, name: str) -> bytes:
        path = self.folder / name
        return path.read_bytes() if path.exists() else b""


def compiled() -> Path:
    """Compile the library, or return it from the cache."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voice-agent-tests" / f"fakepa-{digest}"
    library = cache / "libportaudio.so.2"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = library.with_suffix(f".{os.getpid()}")
        build = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wl,-soname,libportaudio.so.2", "-o", new, _SOURCE]
        done = subprocess.run([*map(str, build), "-lpthread"], capture_output=True, text=True)
        assert done.returncode == 0, f"the fake PortAudio needs gcc and portaudio19-dev: {done.stderr}"
        os.replace(new, library)
    return library

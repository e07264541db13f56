"""A PortAudio made for faults, with the real PyAudio on top, in a process of its own: see ``fake_portaudio.c``."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("fake_portaudio.c")


class FakePortAudio:
    """Its directory and what a process needs to run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"LD_LIBRARY_PATH": str(compiled().parent), "FPA_DIR": str(folder)}

    def order(self, *lines: str) -> None:
        """A new script: counting begins anew when PortAudio is next initialised."""
        new = self.folder / "script.new"
        new.write_text("".join(f"{line}\n" for line in lines))
        os.replace(new, self.folder / "script")

    def set(self, name: str, value: str | None) -> None:
        """Writes ``gone``, ``shift``, ``takes``, ``speed`` or ``spam``; ``None`` takes it away."""
        if value is None:
            (self.folder / name).unlink(missing_ok=True)
        else:
            (self.folder / name).write_text(value)

    def heard(self) -> bytes:
        """Every frame that was taken, as it was written."""
        return self._bytes("heard.raw")

    def calls(self, function: str) -> list[tuple[float, int, str]]:
        """The calls of ``init``, ``terminate``, ``open`` or ``close``: when (monotonic), result, and what of."""
        lines = [line.split(" ", 3) for line in self._bytes("calls").decode().splitlines()]
        return [(float(line[0]), int(line[2]), line[3]) for line in lines if line[1] == function]

    def _bytes(self, name: str) -> bytes:
        path = self.folder / name
        return path.read_bytes() if path.exists() else b""


def compiled() -> Path:
    """The library, from the cache if this very source has been compiled before."""
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

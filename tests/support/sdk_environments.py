"""An environment of its own for each official SDK, made once and kept in ``.sdk/`` at the top of the repository."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

KEY = "secret-key"
CACHE = Path(__file__).resolve().parents[2] / ".sdk"
DRIVERS = Path(__file__).resolve().parents[1] / "sdk" / "drivers"
_INSTALL_SECONDS = 300
_RUN_SECONDS = 280


class Environment:
    """A virtual environment with ``requirements`` and nothing of ours."""

    def __init__(self, *requirements: str) -> None:
        content = json.dumps([sys.version_info[:3], sys.base_prefix, *requirements])
        self._folder = (
            CACHE / f"{requirements[0].partition('=')[0]}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        )
        self._requirements = requirements
        CACHE.mkdir(exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The mark is written last: an environment without it is incomplete and is made again.
            if not (self._folder / "complete").exists():
                shutil.rmtree(self._folder, ignore_errors=True)
                self._make()

    def _make(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(self._folder)], check=True, timeout=_INSTALL_SECONDS)
        # Compiling everything beforehand takes longer than what is used of it ever saves.
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        ended = subprocess.run([*pip, *self._requirements], timeout=_INSTALL_SECONDS, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        (self._folder / "complete").touch()

    @property
    def packages(self) -> Path:
        """The directory of its packages."""
        return next((self._folder / "lib").glob("python*/site-packages"))

    @property
    def python(self) -> str:
        """The interpreter of the environment."""
        return str(self._folder / "bin" / "python")

    def run(self, driver: str, *arguments: object) -> Any:
        """What the driver printed as JSON. ``-I``: nothing of this repository can be imported there."""
        ended = subprocess.run(
            [self.python, "-I", str(DRIVERS / f"{driver}.py"), *map(str, arguments)],
            timeout=_RUN_SECONDS, capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-2000:]
        return json.loads(ended.stdout.splitlines()[-1])

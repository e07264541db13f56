"""test_broker.py and test_frontend.py with paho-mqtt 1.6.1, which Debian 12 has; all others run with version 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
PAHO_1 = Path(sys.prefix) / "paho-1"
"""scripts/setup.sh installs it there."""


@pytest.mark.parametrize("version", ["1.6.1", "2"])
def test_the_library_is_the_expected_one(version: str) -> None:
    path = str(PAHO_1) if version == "1.6.1" else ""
    command = [sys.executable, "-c", "import paho.mqtt; print(paho.mqtt.__version__)"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(version)


def test_version_1_behaves_as_version_2() -> None:
    files = [str(FOLDER / name) for name in ("test_broker.py", "test_frontend.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(PAHO_1)}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:]

"""The stores on a real file system that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_full_disk_keeps_the_files_of_the_stores_true(tmp_path: Path) -> None:
    """In a mount namespace, which needs no rights."""
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(tmp_path)]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("the kernel does not allow namespaces here")
    command = [*words, sys.executable, "-m", "support.full_disk", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warning"

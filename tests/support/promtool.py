"""Prometheus's own checker of metrics and rules, which ``scripts/setup.sh`` extracts from Debian's package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool with ``text`` on stdin."""
    path = shutil.which(Path(sys.executable).with_name("promtool")) or shutil.which("promtool")
    if path is None:
        pytest.fail("promtool is missing: scripts/test installs it on Debian; elsewhere install Prometheus")
    return subprocess.run([path, *arguments], input=text, capture_output=True, text=True, timeout=60)

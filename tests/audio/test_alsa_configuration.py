"""What PortAudio takes for granted of ALSA's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("text", [None, "", "pcm.other { type null }\n"])
def test_a_configuration_without_a_default_is_a_sentence_and_no_abort(tmp_path: Path, text: str | None) -> None:
    """With ALSA's configuration missing or empty PortAudio's list of devices ended in an assertion: ``devices`` and
    ``demo`` died by SIGABRT without a word."""
    path = tmp_path / "alsa.conf"
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "devices"],
        env={**os.environ, "ALSA_CONFIG_PATH": str(path), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode not in (0, -6, 134)
    assert done.stderr.count("\n") == 1 and "ALSA's configuration is missing" in done.stderr

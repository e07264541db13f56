"""An API key from an environment variable that is not set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NEUPHONIC = "synthesis:\n  services: [neuphonic, local]\n  neuphonic: {api_key: {env: NO_SUCH_KEY}}\n"
TRANSCRIPTION = "transcription: {api_key: {env: NO_SUCH_KEY}}\n"
QUIET = "microphone: {device: none}\nspeaker: {device: none}\ncontrol: {socket: none}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NEUPHONIC, ["say", "--output", "x.wav", "Hello."]),
        (NEUPHONIC, ["run"]),
        (NEUPHONIC, ["doctor", "--here"]),
        (TRANSCRIPTION, ["transcribe", "-"]),
        (TRANSCRIPTION, ["run"]),
        (TRANSCRIPTION, ["doctor", "--here"]),
        (TRANSCRIPTION, ["config", "check"]),
    ],
)
def test_an_unset_variable_is_a_configuration_error(tmp_path: Path, text: str, words: list[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text + QUIET)
    done = subprocess.run(
        [sys.executable, "-m", "agent", words[0], "--config", str(config), *words[1:]],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78, done.stdout + done.stderr
    assert "NO_SUCH_KEY" in done.stdout + done.stderr

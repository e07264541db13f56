"""What a command says of a key that is not where the configuration says it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEUPHONIC = "synthesis:\n  services: [neuphonic, local]\n  neuphonic: {api_key: {env: NO_SUCH_KEY}}\n"
TRANSCRIPTION = "transcription: {api_key: {env: NO_SUCH_KEY}}\n"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (NEUPHONIC, ("say", "--output", "x.wav", "Hello.")),
        (NEUPHONIC, ("run",)),
        (NEUPHONIC, ("doctor", "--here")),
        (TRANSCRIPTION, ("transcribe", "-")),
        (TRANSCRIPTION, ("run",)),
        (TRANSCRIPTION, ("doctor", "--here")),
        (TRANSCRIPTION, ("config", "check")),
    ],
)
def test_a_variable_that_is_not_set_is_named_and_is_a_mistake_of_the_configuration(
    tmp_path: Path, text: str, arguments: tuple[str, ...]
) -> None:
    """``{env: NAME}`` without the variable was silent: services were asked without a key."""
    config = tmp_path / "config.yaml"
    config.write_text(text + "microphone: {device: none}\nspeaker: {device: none}\ncontrol: {socket: none}\n")
    done = subprocess.run(
        [sys.executable, "-m", "agent", *_with(config, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78, done.stdout + done.stderr
    assert "NO_SUCH_KEY" in done.stdout + done.stderr and "not set" in done.stdout + done.stderr


def _with(config: Path, arguments: tuple[str, ...]) -> list[str]:
    return [arguments[0], "--config", str(config), *arguments[1:]]

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
        [sys.executable, "-m", "agent", "devices"],
        env={**os.environ, "ALSA_CONFIG_PATH": str(path), "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode not in (0, -6, 134)
    assert done.stderr.count("\n") == 1 and "ALSA's configuration is missing" in done.stderr


@pytest.mark.parametrize("text", ["pcm.!default { type hw card 0 ", "}}} what =", "<nosuchfile.conf>"])
def test_a_mistake_in_the_configuration_is_a_sentence_and_no_abort(tmp_path: Path, text: str) -> None:
    """A bracket forgotten in ``.asoundrc`` leaves ALSA without any configuration: the process died by SIGABRT,
    without a word."""
    (tmp_path / ".asoundrc").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "agent", "devices"],
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1 and "ALSA's configuration cannot be read" in done.stderr


def test_a_configuration_that_is_broken_and_mended_while_a_card_is_away_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "alsa.conf"
    path.write_text("pcm.default { type null }\n")
    program = """if True:
        import sys
        from pathlib import Path
        from agent.audio.devices.device import list_devices
        from agent.errors import DeviceError
        path = Path(sys.argv[1])
        kept = path.read_text()
        print(len(list_devices()))
        path.write_text("pcm.default { type null")
        try:
            list_devices()
        except DeviceError as error:
            print(error)
        path.write_text(kept + "# mended\\n")
        print(len(list_devices()))
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "ALSA_CONFIG_PATH": str(path), "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    first, refused, last = done.stdout.splitlines()
    assert first == last and "cannot be read" in refused

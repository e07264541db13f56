"""ALSA's configuration: errors instead of PortAudio's assertions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("text", [None, "", "pcm.other { type null }\n"])
def test_configuration_without_default_raises_an_error(tmp_path: Path, text: str | None) -> None:
    """With a missing or empty configuration PortAudio would abort the process in an assertion."""
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
def test_syntax_error_in_the_configuration_raises_an_error(tmp_path: Path, text: str) -> None:
    """A syntax error leaves ALSA without any configuration, and a search in it would abort the process."""
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


def test_repaired_configuration_is_read_again(tmp_path: Path) -> None:
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
        path.write_text(kept + "# repaired\\n")
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

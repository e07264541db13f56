"""The files of ALSA's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.audio.devices.alsa import load_library
from agent.audio.devices.alsa_config import config_files, defining_file, file_with, invalid_configuration
from agent.errors import DeviceProblem


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, and a system configuration that loads the files in it."""
    system = tmp_path / "alsa.conf"
    system.write_text('# loads "/etc/asound.conf" and others\npcm.mine { type null }\n')
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(system))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_files_of_the_user_are_loaded_last(home: Path) -> None:
    user = home / "config/alsa/asoundrc"
    user.parent.mkdir(parents=True)
    user.write_text("")
    (home / ".asoundrc").write_text("")
    assert config_files()[0] == home / "alsa.conf"
    assert config_files()[-2:] == [home / ".asoundrc", user]


def test_a_configuration_without_the_hook_is_the_only_file(home: Path) -> None:
    (home / "alsa.conf").write_text("pcm.default { type null }\n")
    (home / ".asoundrc").write_text("")
    assert config_files() == [home / "alsa.conf"]


@pytest.mark.parametrize(
    "text",
    ["pcm.!mine { type null }", "pcm { !mine { type null } }", 'pcm.mine "null"', "pcm.mine.type hw"],
)
def test_defining_file_is_the_last_one_in_every_syntax(home: Path, text: str) -> None:
    assert defining_file(load_library(), "mine") == home / "alsa.conf"
    (home / ".asoundrc").write_text(text)
    assert defining_file(load_library(), "mine") == home / ".asoundrc"
    assert defining_file(load_library(), "nothing") is None


def test_file_with_finds_whole_words(home: Path) -> None:
    (home / ".asoundrc").write_text("pcm.mine { type plug wordwithtail.pcm hw }")
    assert file_with("wordwithtail") == home / ".asoundrc"
    assert file_with("wordwith") is None


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (
            ["_toplevel_:4:0:Unexpected char", "/etc/asound.conf may be old or corrupted: fix it"],
            "/etc/asound.conf, found at line 4",
        ),
        (
            ["/etc/alsa/x.conf:7:1:bad", "/etc/asound.conf may be old or corrupted: fix it"],
            "/etc/alsa/x.conf, found at line 7",
        ),
        (["/etc/asound.conf may be old or corrupted: fix it"], "syntax error in /etc/asound.conf"),
        ([], "syntax error"),
    ],
)
def test_invalid_configuration_names_file_and_line(messages: list[str], text: str) -> None:
    error = invalid_configuration(messages)
    assert text in error.reason and error.problem is DeviceProblem.CONFIGURATION and error.exit_code == 78
    assert error.cure

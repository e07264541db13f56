"""The command that installs an optional part suits the installation."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from agent.system.optional_parts import install_command

ROOT = Path(__file__).resolve().parents[2]
PARTS = sorted(path.name.removeprefix("add-") for path in (ROOT / "packaging").glob("add-*"))


@pytest.mark.parametrize("part", PARTS)
def test_the_package_names_its_script(part: str, tmp_path: Path) -> None:
    (tmp_path / f"add-{part}").touch()
    assert install_command(part, str(tmp_path)) == f"sudo {tmp_path}/add-{part}"


@pytest.mark.parametrize("part", PARTS)
def test_another_installation_names_an_extra_that_exists(part: str, tmp_path: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = install_command(part, str(tmp_path)).partition("[")[2].partition("]")[0]
    assert extra in setup["options.extras_require"]


@pytest.mark.parametrize("part", PARTS)
def test_a_clone_names_an_option_of_its_run_script(part: str) -> None:
    command, _, option = install_command(part, str(ROOT)).partition(" ")
    if part == "recognition":  # the setup of a clone installs it where it can
        assert command == "pip"
    else:
        assert command == "scripts/run" and f"{option})" in (ROOT / "scripts/setup.sh").read_text()

"""The systemd units: what systemd itself says about them, and that they say the same as the program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from agent.config.secrets import SYSTEM_CREDENTIALS, UNIT_PREFIX
from agent.settings.model import Config
from agent.system.paths import Paths
from agent.system.threads import Worker

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


def settings(text: str) -> dict[str, list[str]]:
    """Every assignment of a unit, in order; a name may come more than once."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith(("#", "[")):
            found.setdefault(name, []).append(value)
    return found


def agent_unit() -> dict[str, list[str]]:
    return settings((FOLDER / "voice-agent.service").read_text())


def executable_here(text: str) -> str:
    """The unit as it is for a machine without the package: systemd looks for the program."""
    return text.replace("/usr/bin/voice-agent", "/bin/true")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_has_nothing_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(executable_here(unit.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("example", sorted(FOLDER.rglob("*.example")), ids=lambda example: example.name)
def test_systemd_has_nothing_to_say_about_an_addition(example: Path, tmp_path: Path) -> None:
    copy = tmp_path / "voice-agent.service"
    copy.write_text(executable_here((FOLDER / copy.name).read_text()))
    addition = tmp_path / "voice-agent.service.d" / example.name.removesuffix(".example")
    addition.parent.mkdir()
    addition.write_text(example.read_text())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_sandbox_leaves_an_exposure_of_at_most_one_and_a_half(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stdout
    assert float(level.group(1)) <= 1.5


def test_a_verdict_of_systemd_can_be_bad(tmp_path: Path) -> None:
    unit = tmp_path / "voice-agent.service"
    text = executable_here((FOLDER / unit.name).read_text())
    unit.write_text(text.replace("WatchdogSec=", "WatchdogSecs="))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert "WatchdogSecs" in done.stderr
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit]
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_systemd_waits_longer_for_the_end_than_the_end_may_take() -> None:
    assert float(agent_unit()["TimeoutStopSec"][0]) >= Config().shutdown_seconds + 5


def test_the_watchdog_waits_longer_than_a_worker_may_be_still() -> None:
    assert float(agent_unit()["WatchdogSec"][0]) >= Worker.stall_timeout * 1.5


def test_a_mistake_in_the_configuration_does_not_restart_it_and_a_failure_does() -> None:
    unit = agent_unit()
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert unit["Restart"] == ["on-failure"]
    assert int(unit["StartLimitBurst"][0]) * float(unit["RestartSec"][0]) < float(unit["StartLimitIntervalSec"][0])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_stop_in_the_first_moment_is_no_failure(unit: Path) -> None:
    """Until there is something to end well, SIGTERM ends by 143; systemd called that failed."""
    assert settings(unit.read_text())["SuccessExitStatus"] == ["143"]


def test_every_key_is_handed_over_under_the_name_that_it_is_looked_for() -> None:
    assert agent_unit()["LoadCredential"] == [f"{UNIT_PREFIX.removesuffix('_')}:{SYSTEM_CREDENTIALS}"]


def test_its_directories_are_those_that_the_program_takes() -> None:
    unit = agent_unit()
    for kind in ("RuntimeDirectory", "StateDirectory", "CacheDirectory"):
        assert unit[kind] == ["voice-agent"]
    given = {"RUNTIME_DIRECTORY": "/run/voice-agent", "STATE_DIRECTORY": "/var/lib/voice-agent",
             "CACHE_DIRECTORY": "/var/cache/voice-agent"}  # fmt: skip
    paths = Paths.from_environment(given)
    assert paths.control_socket in Paths.from_environment({"HOME": "/home/somebody"}).candidate_sockets()


def test_sound_gets_through_the_sandbox() -> None:
    unit = agent_unit()
    assert unit["Group"] == ["audio"]
    assert unit["DevicePolicy"] == ["closed"]
    assert unit["DeviceAllow"] == ["char-alsa rw"]
    assert "PrivateDevices" not in unit


def test_it_waits_for_neither_the_network_nor_a_card() -> None:
    unit = agent_unit()
    awaited = {word for line in unit["After"] for word in line.split()}
    assert awaited == {"sound.target", "network.target", "modprobe@snd.service"}
    assert unit["Wants"] == ["modprobe@snd.service"]
    assert not {"Requires", "BindsTo"} & unit.keys()

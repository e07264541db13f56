"""The systemd units: verified by systemd, and consistent with the program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from agent.config.secrets import SYSTEM_CREDENTIALS, UNIT_PREFIX
from agent.settings.model import Config
from agent.system.paths import Paths, candidate_sockets
from agent.system.threads import Worker

FOLDER = Path(__file__).resolve().parent.parent / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
by_name = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def directives(text: str) -> dict[str, list[str]]:
    """Return the values of each directive, in order; a directive may occur several times."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith(("#", "[")):
            values.setdefault(name, []).append(value)
    return values


AGENT = directives((FOLDER / "voice-agent.service").read_text())


def without_program(unit: Path) -> str:
    """Return the unit for a machine without the package: systemd checks that the program exists."""
    return unit.read_text().replace("/usr/bin/voice-agent", "/bin/true")


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)


def exposure(unit: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit]
    return subprocess.run(command, capture_output=True, text=True)


@by_name
def test_systemd_verifies_the_unit(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(without_program(unit))
    done = verify(copy)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("example", sorted(FOLDER.rglob("*.example")), ids=lambda example: example.name)
def test_systemd_verifies_the_drop_in(example: Path, tmp_path: Path) -> None:
    copy = tmp_path / "voice-agent.service"
    copy.write_text(without_program(FOLDER / copy.name))
    drop_in = tmp_path / "voice-agent.service.d" / example.name.removesuffix(".example")
    drop_in.parent.mkdir()
    drop_in.write_text(example.read_text())
    done = verify(copy)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@by_name
def test_exposure_level_is_at_most_1_5(unit: Path) -> None:
    done = exposure(unit)
    assert done.returncode == 0, done.stdout + done.stderr
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level and float(level.group(1)) <= 1.5, done.stdout


def test_a_faulty_unit_is_reported(tmp_path: Path) -> None:
    unit = tmp_path / "voice-agent.service"
    unit.write_text(without_program(FOLDER / unit.name).replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in verify(unit).stderr
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(unit).returncode != 0


def test_stop_timeout_exceeds_the_shutdown_time() -> None:
    assert float(AGENT["TimeoutStopSec"][0]) >= Config().shutdown_seconds + 5


def test_watchdog_exceeds_the_stall_timeout_of_a_worker() -> None:
    assert float(AGENT["WatchdogSec"][0]) >= Worker.stall_timeout * 1.5


def test_only_a_configuration_error_prevents_the_restart() -> None:
    assert AGENT["RestartPreventExitStatus"] == ["78"]
    assert AGENT["RestartForceExitStatus"] == ["75"]
    assert AGENT["Restart"] == ["on-failure"]
    assert int(AGENT["StartLimitBurst"][0]) * float(AGENT["RestartSec"][0]) < float(AGENT["StartLimitIntervalSec"][0])


@by_name
def test_sigterm_during_the_start_is_a_success(unit: Path) -> None:
    assert directives(unit.read_text())["SuccessExitStatus"] == ["143"]


def test_credentials_have_the_names_that_the_program_reads() -> None:
    assert AGENT["LoadCredential"] == [f"{UNIT_PREFIX.removesuffix('_')}:{SYSTEM_CREDENTIALS}"]


def test_directories_are_those_of_the_program() -> None:
    for kind in ("RuntimeDirectory", "StateDirectory", "CacheDirectory"):
        assert AGENT[kind] == ["voice-agent"]
    service = Paths.from_environment({"RUNTIME_DIRECTORY": "/run/voice-agent"})
    assert str(service.control_socket) in candidate_sockets({"HOME": "/home/user"})


def test_sandbox_allows_sound_cards() -> None:
    assert AGENT["Group"] == ["audio"]
    assert AGENT["DevicePolicy"] == ["closed"]
    assert AGENT["DeviceAllow"] == ["char-alsa rw"]
    assert "PrivateDevices" not in AGENT


def test_start_requires_neither_network_nor_card() -> None:
    after = {word for line in AGENT["After"] for word in line.split()}
    assert after == {"sound.target", "network.target", "modprobe@snd.service"}
    assert AGENT["Wants"] == ["modprobe@snd.service"]
    assert not {"Requires", "BindsTo"} & AGENT.keys()

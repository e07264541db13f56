"""The doctor run as the service: its sandbox, its command and the facts that root passes to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.cli.doctor.command import run_checks
from agent.cli.doctor.result import WARNING
from agent.cli.doctor.sandbox import HostFacts, doctor_command, sandbox_properties

UNIT = Path(__file__).parents[3] / "systemd" / "voice-agent.service"


def test_sandbox_properties_omit_the_life_of_the_service() -> None:
    lines = sandbox_properties(UNIT.read_text())
    names = {line.partition("=")[0] for line in lines}
    assert {"DynamicUser", "ProtectSystem", "LoadCredential", "StateDirectory", "SystemCallFilter"} <= names
    assert not names & {"Type", "ExecStart", "WatchdogSec", "Restart", "RuntimeDirectory", "NotifyAccess"}
    assert "User=voice-agent" in lines  # with another user systemd changes the owner of the daemon's directories


def test_sandbox_properties_have_no_specifiers() -> None:
    gpio = UNIT.with_name(f"{UNIT.name}.d") / "gpio.conf.example"
    own = "[Service]\nEnvironment=DATA=%S/data 'RATE=50%%t' %i\nMemoryMax=75%\n"
    lines = sandbox_properties(gpio.read_text() + own)
    assert {"Environment=LG_WD=/run/voice-agent", "MemoryMax=75%"} <= set(lines)
    assert "Environment=DATA=/var/lib/data 'RATE=50%t' %i" in lines


@pytest.mark.parametrize(
    ("start", "arguments", "expected"),
    [
        ("/usr/bin/voice-agent run", [], "/usr/bin/voice-agent doctor --here"),
        ("-/usr/bin/voice-agent run", ["--json"], "/usr/bin/voice-agent doctor --here --json"),
        ("/opt/va/run --config /etc/x.yaml", [], None),
        ("/a run --config /etc/x.yaml", [], "/a doctor --here --config /etc/x.yaml"),
        ("/a run --config /etc/x.yaml", ["--config", "/y"], "/a doctor --here --config /y"),
        ('/a run --config "/etc/x.yaml', [], None),
    ],
)
def test_doctor_command_is_the_program_of_the_unit(start: str, arguments: list[str], expected: str | None) -> None:
    unit = f"[Service]\nExecStart=/bin/false run\n# a drop-in\n[Service]\nExecStart=\nExecStart={start}\n"
    fallback = [sys.argv[0], "doctor", "--here", *arguments]
    assert doctor_command(unit, arguments) == (expected.split() if expected else fallback)


def test_run_checks_uses_the_host_facts_instead_of_systemd(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("microphone: {device: none}\nspeaker: {device: none}\nserver: {start: false}\n")
    unit = {"LoadState": "loaded", "ActiveState": "active", "WatchdogUSec": "15s", "StatusText": 'a "$b" %c'}
    name, _, value = HostFacts(unit, synchronized=False).as_variable().partition("=")
    results = {each.subject: each for each in run_checks(file, {name: value}, read_state=lambda: None)}
    assert 'a "$b" %c' in results["systemd"].saw
    assert results["clock"].verdict == WARNING


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"other": 1}'])
def test_host_facts_of_an_invalid_variable_are_unknown(value: str) -> None:
    name, _, _ = HostFacts().as_variable().partition("=")
    assert HostFacts.of({name: value}) == HostFacts()
    assert HostFacts.of({}) is None

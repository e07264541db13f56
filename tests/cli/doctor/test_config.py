"""Checks of the configuration and of the API keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agent.cli.doctor.config import check_configuration, check_keys
from agent.cli.doctor.finding import ERROR, OK, WARNING, exit_code
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]
NEUPHONIC = "conversation: {mode: announce}\nsynthesis:\n  services: [neuphonic]\n  neuphonic: {api_key: "


def test_check_configuration_reports_each_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("speaker:\n  volumee: 3\nlogging: {level: loud}\n")
    _, findings = check_configuration(file, {})
    assert [finding.verdict for finding in findings] == [ERROR, ERROR]
    assert '"volume"' in findings[0].saw and f"change line 2 of {file}" in findings[0].cure
    assert exit_code(findings) == 78


def test_check_keys_reports_a_missing_key_with_the_command_that_sets_it(loaded: Read) -> None:
    (finding,) = check_keys(loaded(NEUPHONIC + "{credential: no-such-key}}\n"), installed=False)
    assert finding.verdict == ERROR and "no-such-key" in finding.saw and "is missing" in finding.saw
    assert "sudo install -m 600 /dev/stdin /etc/voice-agent/credentials/no-such-key" in finding.cure
    assert exit_code([finding]) == 78


def test_check_keys_reports_a_key_that_the_service_cannot_read(loaded: Read, tmp_path: Path) -> None:
    key = tmp_path / "neuphonic.key"
    key.write_text("s3cret-key\n")
    key.chmod(0o600)
    (finding,) = check_keys(loaded(f"{NEUPHONIC}{{file: {key}}}}}\n"), installed=True)
    assert "s3cret-key" not in f"{finding}"
    if os.geteuid() == 0:
        assert finding.verdict == ERROR and "cannot read it" in finding.saw
        assert "{credential: neuphonic}" in finding.cure and "config.yaml:4" in finding.cure
    else:
        assert finding.verdict == OK


def test_check_keys_reports_a_key_file_that_cannot_be_read(loaded: Read, tmp_path: Path) -> None:
    folder = tmp_path / "folder.key"
    folder.mkdir()
    (finding,) = check_keys(loaded(f"{NEUPHONIC}{{file: {folder}}}}}\n"), installed=False)
    assert finding.verdict == ERROR and "cannot be read" in finding.saw and "{credential: neuphonic}" in finding.cure


def test_check_keys_warns_about_a_key_that_other_users_can_read(loaded: Read, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret-key\n")
    key.chmod(0o644)
    (finding,) = check_keys(loaded(f"{NEUPHONIC}{{file: {key}}}}}\n"), installed=False)
    assert finding.verdict == WARNING and finding.cure == f"sudo chmod 600 {key}"

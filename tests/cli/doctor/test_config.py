"""Checks of the configuration and of the API keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agent.cli.doctor.config import check_configuration, check_keys
from agent.cli.doctor.result import ERROR, OK, WARNING, exit_code
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]
NEUPHONIC = "conversation: {mode: announce}\nsynthesis:\n  services: [neuphonic]\n  neuphonic: {api_key: "


def test_check_configuration_reports_each_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("speaker:\n  volumee: 3\nlogging: {level: loud}\n")
    _, results = check_configuration(file, {})
    assert [result.verdict for result in results] == [ERROR, ERROR]
    assert '"volume"' in results[0].saw and f"change line 2 of {file}" in results[0].cure
    assert exit_code(results) == 78


def test_check_configuration_counts_the_keys_without_their_sections(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("speaker: {device: none, volume: 3}\nsynthesis: {services: [fish, local]}\n")
    _, results = check_configuration(file, {})
    assert [(result.verdict, result.saw) for result in results] == [(OK, f"{file}, 3 keys are set")]


def test_check_keys_reports_a_missing_key_with_the_command_that_sets_it(loaded: Read) -> None:
    (result,) = check_keys(loaded(NEUPHONIC + "{credential: no-such-key}}\n"), installed=False)
    assert result.verdict == ERROR and "no-such-key" in result.saw and "is missing" in result.saw
    assert "sudo install -m 600 /dev/stdin /etc/voice-agent/credentials/no-such-key" in result.cure
    assert exit_code([result]) == 78


def test_check_keys_reports_a_key_that_the_service_cannot_read(loaded: Read, tmp_path: Path) -> None:
    key = tmp_path / "neuphonic.key"
    key.write_text("s3cret-key\n")
    key.chmod(0o600)
    (result,) = check_keys(loaded(f"{NEUPHONIC}{{file: {key}}}}}\n"), installed=True)
    assert "s3cret-key" not in f"{result}"
    if os.geteuid() == 0:
        assert result.verdict == ERROR and "cannot read it" in result.saw
        assert "{credential: neuphonic}" in result.cure and "config.yaml:4" in result.cure
    else:
        assert result.verdict == OK


def test_check_keys_reports_a_key_file_that_cannot_be_read(loaded: Read, tmp_path: Path) -> None:
    folder = tmp_path / "folder.key"
    folder.mkdir()
    (result,) = check_keys(loaded(f"{NEUPHONIC}{{file: {folder}}}}}\n"), installed=False)
    assert result.verdict == ERROR and "cannot be read" in result.saw and "{credential: neuphonic}" in result.cure


def test_check_keys_warns_about_a_key_that_other_users_can_read(loaded: Read, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret-key\n")
    key.chmod(0o644)
    (result,) = check_keys(loaded(f"{NEUPHONIC}{{file: {key}}}}}\n"), installed=False)
    assert result.verdict == WARNING and result.cure == f"sudo chmod 600 {key}"


def test_check_keys_reports_a_missing_token_of_the_page(loaded: Read) -> None:
    config = "conversation: {mode: announce}\nweb: {listen: '%s', token: {credential: no-such-token}}\n"
    (result,) = check_keys(loaded(config % "127.0.0.1:8395"), installed=False)
    assert result.verdict == OK and "the page shows the state" in result.saw
    (result,) = check_keys(loaded(config % "0.0.0.0:8395"), installed=False)
    assert result.verdict == ERROR and "no-such-token" in result.saw and "install -m 600" in result.cure
    assert check_keys(loaded(config % "none"), installed=False) == []

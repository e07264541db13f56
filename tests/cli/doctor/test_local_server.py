"""Checks of the local speech server and its engines."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.doctor.local_server import check_local_server
from agent.cli.doctor.result import ERROR, OK, exit_code
from agent.settings.loader import Loaded
from agent.system.optional_parts import install_command

Read = Callable[[str], Loaded]


def test_a_port_in_use_by_another_program_is_reported(loaded: Read) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = f"conversation: {{mode: announce}}\nserver: {{port: {port}, speech: tone}}\n"
        result = check_local_server(loaded(text))[0]
    assert result.verdict == ERROR and f"port {port}" in result.saw and f"process {os.getpid()} (" in result.saw
    assert f"sport = :{port}" in result.cure and "server.port" in result.cure


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_not_reported_as_in_use(loaded: Read, host: str) -> None:
    text = f"conversation: {{mode: announce}}\nserver: {{host: {host}, speech: tone, start: "
    remote, own = (check_local_server(loaded(f"{text}{start}}}\n"))[0] for start in ("false", "true"))
    assert remote.verdict == own.verdict == ERROR
    assert f"answers at {host}:8394" in remote.saw and f"on {host}" in remote.cure
    assert f"listen at {host}:8394" in own.saw and "server.host (" in own.cure and own.own


def test_a_free_ipv6_port_is_ok(loaded: Read) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
    text = f"conversation: {{mode: announce}}\nserver: {{host: '::1', port: {port}, speech: tone}}\n"
    assert check_local_server(loaded(text))[0].verdict == OK


def test_a_missing_recognizer_is_reported_with_the_command_that_installs_it(
    loaded: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.server.stt.engine.is_installed", lambda module: False)
    results = {result.subject: result for result in check_local_server(loaded("server: {speech: tone}\n"))}
    assert results["local server"].verdict == OK and results["local voice"].verdict == OK
    recognizer = results["local recognizer"]
    assert recognizer.verdict == ERROR and exit_code([recognizer]) == 69
    assert recognizer.cure == install_command("recognition")


def test_missing_vosk_is_reported_with_the_command_that_installs_it(
    loaded: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agent.server.stt.vosk.is_installed", lambda module: False)
    text = f"server: {{speech: tone, recognition: vosk, model_path: {tmp_path}}}\n"
    results = {result.subject: result for result in check_local_server(loaded(text))}
    recognizer = results["local recognizer"]
    assert recognizer.verdict == ERROR and recognizer.cure == install_command("vosk")


def test_without_local_services_there_is_no_finding(loaded: Read) -> None:
    text = "conversation: {mode: announce}\nsynthesis:\n  services: [neuphonic]\n  neuphonic: {api_key: some-key}\n"
    assert check_local_server(loaded(text)) == []


@pytest.mark.parametrize("voice", ["klingon", "espeak:klingon", "flite:bob"])
def test_a_local_voice_that_does_not_exist_is_an_error_of_the_configuration(loaded: Read, voice: str) -> None:
    text = f"conversation: {{mode: announce}}\nserver: {{port: 0}}\nsynthesis: {{local: {{voice: '{voice}'}}}}\n"
    results = {result.subject: result for result in check_local_server(loaded(text))}
    result = results["local voice"]
    assert result.verdict == ERROR and f'"{voice}"' in result.saw and exit_code([result]) == 78
    assert "voice-agent voices" in result.cure and "synthesis.local.voice (" in result.cure

"""The checks of the section mqtt."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.config.errors import ConfigIssues
from agent.frontends.mqtt.settings import MqttSettings
from agent.frontends.mqtt.topics import Topics
from agent.settings.loader import load


def load_text(folder: Path, text: str) -> MqttSettings:
    (folder / "config.yaml").write_text(text)
    return load(folder / "config.yaml", {}).mqtt


def problems(folder: Path, lines: str) -> str:
    with pytest.raises(ConfigIssues) as raised:
        load_text(folder, f"mqtt:\n  url: mqtt://127.0.0.1\n{lines}")
    return str(raised.value)


@pytest.mark.parametrize("name", ["a/b", "a+b", "a#", "$SYS", "", "all", "group", "room", "a\\tb", "x" * 65])
def test_a_name_that_is_no_level_of_a_topic_is_refused(tmp_path: Path, name: str) -> None:
    assert "mqtt.topic" in problems(tmp_path, f'  topic: "voice-agent/{name}"\n')


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("  topic: kitchen\n", "voice-agent/NAME"),
        ("  room: a/b\n", "mqtt.room"),
        ("  groups: [ok, a#]\n", "mqtt.groups[1]"),
        ("  url: mqtt://kitchen:secret@192.0.2.1\n", "mqtt.user"),
        ("  url: http://192.0.2.1\n", "mqtt://"),
        ("  url: mqtt://broker.example.com\n", "mqtts://"),
        ("  certificate: /none.pem\n", "does not exist"),
        ("  discovery: homeassist\n", "homeassistant"),
    ],
)
def test_a_wrong_value_is_refused_with_the_expected_one(tmp_path: Path, lines: str, part: str) -> None:
    text = problems(tmp_path, lines) if "url" not in lines else problems_of_url(tmp_path, lines)
    assert part in text and "secret" not in text


def problems_of_url(folder: Path, line: str) -> str:
    with pytest.raises(ConfigIssues) as raised:
        load_text(folder, f"mqtt:\n{line}")
    return str(raised.value)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "device.pem").write_text("x")
    assert "mqtt.key" in problems(tmp_path, f"  certificate: {tmp_path}/device.pem\n")


def test_a_plain_connection_to_a_public_host_has_to_be_allowed(tmp_path: Path) -> None:
    settings = load_text(tmp_path, "mqtt: {url: mqtt://broker.example.com, allow_plaintext: true}\n")
    assert settings.is_on


def test_the_default_name_is_that_of_the_machine() -> None:
    name = socket.gethostname().partition(".")[0]
    assert MqttSettings(url="mqtt://localhost", groups=("a",)).topics == Topics("voice-agent", name, ("a",))


def test_the_missing_library_is_an_error_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "edge-voice-agent[mqtt]"' in problems(tmp_path, "")

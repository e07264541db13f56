"""``voice-agent fleet`` with simulated devices at mosquitto."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.machine import free_port
from support.mosquitto import Mosquitto, TestClient
from support.simulated_device import SimulatedDevice

from agent.cli.fleet import say
from agent.cli.main import main
from agent.errors import UsageError
from agent.frontends.mqtt.settings import MqttSettings
from agent.settings.model import Config

DEVICES = 50


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def devices(broker: Mosquitto) -> Iterator[dict[str, SimulatedDevice]]:
    """The devices of the fleet; every tenth one is in the group kiosks, and device-07 cannot speak."""
    client = TestClient(broker.url, "voice-agent/+/availability", "voice-agent/+/state")
    started = {}
    for number in range(DEVICES):
        name = f"device-{number:02d}"
        groups = ("kiosks",) if number % 10 == 0 else ()
        ends_as = "failed" if number == 7 else "played"
        started[name] = SimulatedDevice(broker.url, name, ends_as=ends_as, groups=groups)
    ready: set[str] = set()
    while len(ready) < 2 * DEVICES:
        client.pump()
        while not client.messages.empty():
            ready.add(client.messages.get().topic)
    yield started
    for device in started.values():
        device.close()
    client.close()


@pytest.fixture
def fleet(broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``voice-agent fleet`` and return its exit code and output."""
    (tmp_path / "config.yaml").write_text(f"mqtt: {{url: '{broker.url}'}}\n")

    def run(*words: str) -> tuple[int, str]:
        code = main(["fleet", *words, "--config", str(tmp_path / "config.yaml")])
        return code, capsys.readouterr().out

    return run


def test_status_shows_every_device(devices: object, fleet: Callable[..., tuple[int, str]]) -> None:
    code, output = fleet("status")
    lines = output.splitlines()
    assert code == 0 and lines[-1] == f"{DEVICES} of {DEVICES} devices are online"
    assert lines[1].split()[:4] == ["device-00", "yes", "idle", "70"]
    code, output = fleet("status", "--json")
    assert [device["device"] for device in json.loads(output)["devices"]] == sorted(devices)  # type: ignore[call-overload]


def test_a_text_is_spoken_by_all_and_each_answers_with_its_record(
    devices: dict[str, SimulatedDevice], fleet: Callable[..., tuple[int, str]]
) -> None:
    code, output = fleet("say", "The shop closes in ten minutes.", "--json")
    records = {record["device"]: record["state"] for record in json.loads(output)["records"]}
    assert code == 69 and records == {name: "failed" if name == "device-07" else "played" for name in devices}
    assert all(device.texts[-1] == "The shop closes in ten minutes." for device in devices.values())


def test_a_text_is_spoken_by_a_group_or_by_one_device(
    devices: dict[str, SimulatedDevice], fleet: Callable[..., tuple[int, str]]
) -> None:
    code, output = fleet("say", "For kiosks.", "--group", "kiosks", "--priority", "important")
    assert code == 0 and len(output.splitlines()) == 1 + DEVICES // 10
    code, output = fleet("say", "For one.", "--device", "device-03")
    assert code == 0 and output.splitlines()[1].split()[:2] == ["device-03", "played"]
    assert [name for name, device in devices.items() if device.texts[-1:] == ["For one."]] == ["device-03"]


def test_a_device_that_is_away_is_listed_as_offline(
    broker: Mosquitto, devices: dict[str, SimulatedDevice], fleet: Callable[..., tuple[int, str]]
) -> None:
    client = TestClient(broker.url, "voice-agent/device-09/availability", client_id="watcher")
    client.next("voice-agent/device-09/availability", contains=b"online")
    devices["device-09"].close()
    client.next("voice-agent/device-09/availability", contains=b"offline")
    client.close()
    code, output = fleet("say", "Hello.", "--device", "device-09")
    assert code == 69 and "offline" in output
    code, output = fleet("status")
    assert code == 69 and "49 of 50 devices are online" in output


def test_a_text_that_the_device_rejects_ends_at_once(
    devices: object, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config()._replace(mqtt=MqttSettings(url=broker.url))
    assert say(config, "Hello.", device="device-01", options={"ttl": -5}) == 69
    output = capsys.readouterr().out
    assert "rejected" in output and "ttl_seconds" in output


def test_a_text_in_another_script_has_as_many_bytes_as_in_utf_8(
    devices: object, fleet: Callable[..., tuple[int, str]]
) -> None:
    code, output = fleet("say", "\u0928\u092e\u0938\u094d\u0924\u0947 " * 3000, "--device", "device-01")
    assert code == 0 and "played" in output


def test_a_text_that_is_too_long_for_a_message_is_refused(
    broker: Mosquitto,
) -> None:
    config = Config()._replace(mqtt=MqttSettings(url=broker.url))
    with pytest.raises(UsageError, match="say the text in parts"):
        say(config, "word " * 14000)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["say"], "TEXT"),
        (["status", "x"], "no text"),
        (["say", "."], "only marks"),
        (["say", "a", "--group", "#"], "#"),
    ],
)
def test_a_wrong_use_is_one_sentence(
    broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    (tmp_path / "config.yaml").write_text(f"mqtt: {{url: '{broker.url}'}}\n")
    assert main(["fleet", *words, "--config", str(tmp_path / "config.yaml")]) == 2
    assert part in capsys.readouterr().err


def test_a_broker_that_is_away_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(f"mqtt: {{url: 'mqtt://127.0.0.1:{free_port()}'}}\n")
    assert main(["fleet", "status", "--config", str(tmp_path / "config.yaml")]) == 69
    assert "cannot connect" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("mqtt: {}\n")
    assert main(["fleet", "status", "--config", str(tmp_path / "config.yaml")]) == 78
    assert "mqtt.url" in capsys.readouterr().err

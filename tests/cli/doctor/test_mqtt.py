"""The check of the broker, with mosquitto."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.machine import free_port
from support.mosquitto import Certificates, Mosquitto, TestClient

from agent.cli.doctor.mqtt import check_broker
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.settings.loader import Loaded

DISCOVERY = "homeassistant/device/voice-agent_kitchen/config"
PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker whose rules give the user kitchen everything, and the user guest nothing."""
    folder = tmp_path_factory.mktemp("broker")
    for user, options in (("kitchen", ["-b", "-c"]), ("guest", ["-b"])):
        subprocess.run(["mosquitto_passwd", *options, str(folder / "passwords"), user, PASSWORD], check=True)
    (folder / "rules").write_text("user kitchen\ntopic readwrite #\n")
    started = Mosquitto(folder, f"password_file {folder}/passwords", f"acl_file {folder}/rules")
    yield started
    started.stop()


@pytest.fixture
def checked(broker: Mosquitto, loaded: Callable[[str], Loaded], tmp_path: Path) -> Callable[..., CheckResult]:
    def check(*, url: str = broker.url, in_use: bool = False, seconds: float = 10.0, **keys: str) -> CheckResult:
        (tmp_path / "password").write_text(keys.pop("password", PASSWORD))
        values = {"url": url, "topic": "voice-agent/kitchen", "user": "kitchen", **keys}
        lines = [f"  {key}: {value}" for key, value in values.items()]
        text = "\n".join(["mqtt:", *lines, f"  credential: {{file: {tmp_path}/password}}", ""])
        return check_broker(loaded(text), in_use=in_use, answer_seconds=seconds)

    return check


def test_a_login_is_ok_and_the_running_service_needs_the_discovery_message(
    broker: Mosquitto, checked: Callable[..., CheckResult]
) -> None:
    assert checked().verdict == OK and "the user kitchen" in checked().saw
    missing = checked(in_use=True)
    assert (missing.verdict, DISCOVERY in missing.cure) == (WARNING, True)
    assert checked(in_use=True, discovery="none").verdict == OK
    client = TestClient(broker.url, user="kitchen", password=PASSWORD)
    client.publish(DISCOVERY, "{}", retain=True)
    client.close()
    assert checked(in_use=True).verdict == OK


def test_a_wrong_password_names_its_file(checked: Callable[..., CheckResult], tmp_path: Path) -> None:
    row = checked(password="wrong-horse")
    assert (row.verdict, row.own) == (ERROR, True)
    assert f"{tmp_path}/password" in row.cure and "wrong-horse" not in f"{row}"


def test_rules_that_hold_messages_back_are_an_error(checked: Callable[..., CheckResult]) -> None:
    row = checked(user="guest", seconds=0.5)
    assert row.verdict == ERROR and "user guest" in row.cure and "voice-agent/kitchen/#" in row.cure


def test_a_broker_that_is_away_names_the_key(checked: Callable[..., CheckResult]) -> None:
    row = checked(url=f"mqtt://127.0.0.1:{free_port()}")
    assert (row.verdict, row.own) == (ERROR, False)
    assert "cannot connect" in row.saw and "mqtt.url" in row.cure


def test_a_file_that_cannot_be_used_names_the_section(checked: Callable[..., CheckResult], tmp_path: Path) -> None:
    (tmp_path / "authority.pem").write_text("no certificate")
    row = checked(url=f"mqtts://127.0.0.1:{free_port()}", authority=str(tmp_path / "authority.pem"))
    assert (row.verdict, row.own) == (ERROR, True)
    assert "mqtt.authority" in row.saw and row.cure.startswith("correct mqtt ")


def test_tls_with_the_authority_is_ok_and_without_it_an_error(
    checked: Callable[..., CheckResult], tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    broker = Mosquitto(tmp_path, *certificates.lines())
    url = broker.url.replace("mqtt:", "mqtts:")
    row = checked(url=url, authority=str(certificates.authority))
    assert row.verdict == OK and "with TLS" in row.saw
    row = checked(url=url)
    assert (row.verdict, row.own) == (ERROR, True)
    assert "certificate" in row.saw and "mqtt.authority" in row.cure
    broker.stop()

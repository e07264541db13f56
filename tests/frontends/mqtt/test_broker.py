"""The connection to mosquitto: TLS, certificates, passwords, and the log of failures."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.machine import free_port
from support.mosquitto import TIMEOUT_SECONDS, Certificates, Mosquitto

from agent.config.secrets import Secret
from agent.frontends.mqtt.broker import Broker, BrokerTiming, Message, Will
from agent.frontends.mqtt.settings import MqttSettings
from agent.system.threads import Deadline, Mailbox

FAST = BrokerTiming(first_seconds=0.02, cap_seconds=0.05, retry_seconds=0.1)
PASSWORD = "correct-horse"


class Connection:
    """A broker connection in the thread of the test."""

    def __init__(self, url: str, name: str = "device", timing: BrokerTiming = FAST, **settings: Any) -> None:
        self.connects = 0
        self.messages: list[Message] = []
        self.box: Mailbox[None] = Mailbox()
        values = MqttSettings(url=url, **settings)
        self.broker = Broker(
            values,
            name,
            on_connected=self._count,
            on_message=self.messages.append,
            will=Will(f"{name}/will", b"gone"),
            timing=timing,
        )

    def _count(self) -> None:
        self.connects += 1

    def wait_for(self, is_done: Callable[[], bool]) -> None:
        deadline = Deadline(TIMEOUT_SECONDS)
        while not is_done():
            assert not deadline.is_expired, self.broker.failure
            self.broker.wait(self.box, 0.5)

    def attempts(self, count: int) -> None:
        """Wait until the connection was refused or lost so often."""
        before = self.broker.failures
        self.wait_for(lambda: self.broker.failures >= before + count)

    def close(self) -> None:
        self.broker.close()
        self.box.close()


@contextmanager
def connected(url: str, **settings: Any) -> Iterator[Connection]:
    connection = Connection(url, **settings)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path_factory.mktemp("tls"), *certificates.lines("require_certificate true"))
    yield broker
    broker.stop()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_a_password_is_checked_and_a_wrong_one_is_one_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "kitchen", PASSWORD], check=True)
    broker = Mosquitto(tmp_path, f"password_file {file}")
    with connected(broker.url, user="kitchen", credential=Secret(value=PASSWORD)) as connection:
        connection.wait_for(lambda: connection.broker.is_connected)
    with connected(broker.url, user="kitchen", credential=Secret(value="wrong-horse")) as connection:
        connection.attempts(3)
    (error,) = errors(caplog)
    assert "mqtt.credential" in error and "wrong-horse" not in error
    broker.stop()


def test_a_refusal_is_retried_every_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "kitchen", PASSWORD], check=True)
    broker = Mosquitto(tmp_path, f"password_file {file}")
    with connected(broker.url, timing=BrokerTiming(), user="kitchen") as connection:
        connection.attempts(1)
        connection.broker.wait(connection.box, 0.0)
        assert connection.broker.failures == 1, "no attempt follows at once"
    (error,) = errors(caplog)
    assert "retry in 60.0 s" in error
    broker.stop()


def test_tls_with_a_client_certificate(
    tls_broker: Mosquitto, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    settings = {
        "authority": str(certificates.authority),
        "certificate": str(certificates.device),
        "key": str(certificates.device_key),
    }
    with connected(tls_broker.url.replace("mqtt:", "mqtts:"), **settings) as connection:
        connection.wait_for(lambda: connection.broker.is_connected)
        connection.broker.subscribe([("a", 1)])
        connection.broker.publish("a", b"x" * 200_000, qos=1)  # more than one TLS record
        connection.wait_for(lambda: len(connection.messages) == 1)
        assert len(connection.messages[0].payload) == 200_000
    assert not (tmp_path / "keys").exists(), "the session keys are on the disk"


@pytest.mark.parametrize(
    ("scheme", "has_authority", "part"),
    [
        ("mqtts", False, "the certificate of the broker is not valid"),
        ("mqtts", True, "mqtt.certificate"),  # TLS 1.3 refuses the missing certificate after the handshake
    ],
)
def test_a_certificate_that_is_refused_is_one_error(
    tls_broker: Mosquitto,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    has_authority: bool,
    part: str,
) -> None:
    settings = {"authority": str(certificates.authority)} if has_authority else {}
    with connected(tls_broker.url.replace("mqtt:", f"{scheme}:"), **settings) as connection:
        connection.attempts(5)
    (error,) = errors(caplog)
    assert part in error


def test_a_broker_without_tls_is_an_error_that_names_the_port(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Mosquitto(tmp_path)
    with connected(broker.url.replace("mqtt:", "mqtts:")) as connection:
        connection.attempts(2)
    broker.stop()
    assert len(errors(caplog)) <= 1
    assert any("port" in record.getMessage() or "TLS" in record.getMessage() for record in caplog.records)


def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with connected(f"mqtts://127.0.0.1:{free_port()}", authority=str(tmp_path / "ca.pem")) as connection:
        connection.attempts(2)
    (error,) = errors(caplog)
    assert "mqtt.authority" in error


def test_a_broker_that_is_away_is_one_warning_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)
    broker.stop()
    with connected(broker.url) as connection:
        connection.attempts(4)
        broker.start()
        connection.wait_for(lambda: connection.broker.is_connected)
        broker.restart()
        connection.wait_for(lambda: connection.connects == 2)
    broker.stop()
    warnings = [record.getMessage() for record in caplog.records if "no connection" in record.getMessage()]
    assert sum("refused" in warning.lower() for warning in warnings) <= 2


def test_a_server_that_is_no_broker_does_not_hold_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, connected(f"mqtt://127.0.0.1:{listener.getsockname()[1]}") as connection:
        connection.broker.wait(connection.box, 0.0)  # dials
        peer, _ = listener.accept()
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.close()
        connection.attempts(1)
    assert any("no connection" in record.getMessage() for record in caplog.records)


def test_a_message_that_needs_no_acknowledgment_gets_none(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with connected(broker.url) as connection:
        connection.wait_for(lambda: connection.broker.is_connected)
        connection.broker.subscribe([("a", 1)])
        connection.broker.publish("a", b"1")
        connection.wait_for(lambda: len(connection.messages) == 1)
        connection.broker.acknowledge(connection.messages[0].token)
        connection.broker.publish("a", b"2", qos=1)
        connection.wait_for(lambda: len(connection.messages) == 2)
        assert connection.connects == 1, "a broker closes the connection for an acknowledgment of nothing"
    broker.stop()


def test_a_message_without_an_acknowledgment_is_sent_again_to_the_next_connection(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with connected(broker.url) as connection:
        connection.wait_for(lambda: connection.broker.is_connected)
        connection.broker.subscribe([("a", 1)])
        for number in (b"1", b"2"):
            connection.broker.publish("a", number, qos=1)
        connection.wait_for(lambda: len(connection.messages) == 2)
        connection.broker.acknowledge(connection.messages[0].token)
    with connected(broker.url) as connection:
        connection.wait_for(lambda: len(connection.messages) == 1)
        assert connection.messages[0].payload == b"2"
        connection.broker.acknowledge(connection.messages[0].token)
    broker.stop()

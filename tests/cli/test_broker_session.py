"""The connection of one command to a broker."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
from support.mosquitto import TIMEOUT_SECONDS, Mosquitto

from agent.cli.broker_session import BrokerConnectionError, BrokerSession
from agent.frontends.mqtt.settings import MqttSettings
from agent.system.threads import Deadline


def test_a_server_that_never_answers_is_a_missing_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = MqttSettings(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        session = BrokerSession(settings, [], "test", lambda topic, payload: None, connect_seconds=0.3)
        with pytest.raises(BrokerConnectionError, match="does not answer") as caught, session:
            pass
    assert "mqtt.url" in caught.value.failure.cure


def test_text_is_not_confirmed_when_the_connection_is_lost_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)
    try:
        settings = MqttSettings(broker.url)
        session = BrokerSession(settings, [], "test", lambda topic, payload: None, answer_seconds=TIMEOUT_SECONDS)
        with session:
            broker.stop()
            caplog.set_level(logging.WARNING, "agent.frontends.mqtt")
            deadline = Deadline(TIMEOUT_SECONDS)
            while not any("no connection" in record.getMessage() for record in caplog.records):
                assert not deadline.is_expired
                session.wait(deadline)
            with pytest.raises(BrokerConnectionError):
                session.publish("test/say", "hello")
    finally:
        broker.stop()

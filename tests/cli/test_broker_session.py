"""The connection of one command to a broker that does not answer."""

from __future__ import annotations

import socket

import pytest

from agent.cli.broker_session import BrokerRefusalError, BrokerSession
from agent.frontends.mqtt.settings import MqttSettings


def test_a_server_that_never_answers_is_a_missing_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = MqttSettings(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        session = BrokerSession(settings, [], "test", lambda topic, payload: None, connect_seconds=0.3)
        with pytest.raises(BrokerRefusalError, match="does not answer") as caught, session:
            pass
    assert "mqtt.url" in caught.value.failure.cure

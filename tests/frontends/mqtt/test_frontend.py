"""The MQTT frontend with mosquitto: texts, commands, state, acknowledgments, restarts and bad input."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.mosquitto import TIMEOUT_SECONDS, Mosquitto, TestClient

from agent.frontends.api.api import Api
from agent.frontends.mqtt.broker import BrokerTiming
from agent.frontends.mqtt.frontend import MqttFrontend
from agent.frontends.mqtt.settings import MqttSettings
from agent.pipeline.actions import Record
from agent.pipeline.events import Event, Stored, Utterance
from agent.pipeline.history import Claim
from agent.pipeline.status import Status
from agent.system.threads import Deadline

FAST = BrokerTiming(first_seconds=0.05, cap_seconds=0.1, retry_seconds=0.2)
STATUS = Status("listening", "idle", volume=70)


class Memory:
    """A history that knows no id and stores nothing by itself. Thread-safe."""

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        answer(Claim())

    def read_history(self, limit: int, answer: Callable[[list[Any]], None]) -> None:
        answer([])


class Device:
    """A started frontend; the test is the daemon."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.api = Api(self.events.put, history=Memory())
        values = {"url": url, "topic": "voice-agent/kitchen", **settings}
        self.frontend = MqttFrontend(MqttSettings(**values), self.api, self.events.put, timing=FAST)
        self.frontend.open()
        self.frontend.start()
        self.notify(STATUS)

    def notify(self, notification: Any) -> None:
        self.api.notify(notification)
        self.frontend.notify(notification)

    def event(self) -> Any:
        return self.events.get(timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        self.frontend.stop_accepting()
        self.frontend.stop()
        assert self.frontend.join(Deadline(TIMEOUT_SECONDS))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield started
    started.stop()


@pytest.fixture
def device(broker: Mosquitto) -> Iterator[Device]:
    started = Device(broker.url)
    yield started
    started.close()


@pytest.fixture
def client(broker: Mosquitto, device: Device) -> Iterator[TestClient]:
    connected = TestClient(broker.url, "voice-agent/#")
    connected.next("voice-agent/kitchen/state")
    yield connected
    connected.close()


def fields(message: Any) -> dict[str, Any]:
    return dict(json.loads(message.payload))


def test_a_text_is_announced_and_answered_with_its_record(device: Device, client: TestClient) -> None:
    client.publish("voice-agent/kitchen/say", '{"message": "Dinner.", "id": "a", "priority": "important", "ttl": 60}')
    utterance = device.event().utterance
    assert (utterance.id, utterance.text, utterance.source) == ("a", "Dinner.", "mqtt")
    assert utterance.urgency.value == "important" and utterance.delivery.ttl_seconds == 60
    device.notify(Stored("a", True))
    accepted = fields(client.next("voice-agent/kitchen/record"))
    assert (accepted["device"], accepted["id"], accepted["state"], accepted["durable"]) == (
        "kitchen",
        "a",
        "accepted",
        True,
    )
    device.notify(Record(utterance, "played", "", 1.5))
    assert fields(client.next("voice-agent/kitchen/record"))["state"] == "played"

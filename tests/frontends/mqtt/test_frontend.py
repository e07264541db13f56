"""The MQTT frontend with mosquitto: texts, commands, state, acknowledgments, restarts and bad input."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.home_assistant import validate
from support.machine import free_port
from support.mosquitto import TIMEOUT_SECONDS, Mosquitto, TestClient
from support.proxy import Proxy, Toxics

from agent.frontends.api.api import Api
from agent.frontends.mqtt import broker as broker_module
from agent.frontends.mqtt.broker import RECEIVE_MAXIMUM, BrokerTiming
from agent.frontends.mqtt.discovery import About
from agent.frontends.mqtt.frontend import MAX_RECORDS, MqttFrontend
from agent.frontends.mqtt.settings import MqttSettings
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    ButtonPressed,
    Event,
    Heard,
    Hush,
    MicrophoneMute,
    Restart,
    Stored,
    TimersChanged,
    Volume,
    WakeYielded,
    Woken,
)
from agent.pipeline.history import Claim
from agent.pipeline.status import Status
from agent.pipeline.timers import Timer, TimerChange
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

FAST = BrokerTiming(first_seconds=0.05, cap_seconds=0.1, retry_seconds=0.2)
ABOUT = About("1.2")
STATUS = Status("listening", "idle", volume=70)


class Memory:
    """A history that knows no id and stores nothing by itself. Thread-safe."""

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        answer(Claim())

    def release(self, utterance: str) -> None: ...

    def read_history(self, limit: int, answer: Callable[[list[Any]], None]) -> None:
        answer([])


class Device:
    """A started frontend; the test is the daemon."""

    def __init__(self, url: str, *, about: About = ABOUT, **settings: Any) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.api = Api(self.events.put, history=Memory())
        values = {"url": url, "topic": "voice-agent/kitchen", **settings}
        self.frontend = MqttFrontend(
            MqttSettings(**values), self.api, about, self.events.put, timing=FAST, window_seconds=20.0
        )
        self.frontend.open()
        self.frontend.start()
        self.notify(STATUS)

    def notify(self, notification: Any) -> None:
        self.api.notify(notification)
        self.frontend.notify(notification)

    def event(self) -> Any:
        return self.events.get(timeout=TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End as after SIGKILL: nothing is published."""
        self.frontend.abort()
        assert self.frontend.join(Deadline(TIMEOUT_SECONDS))

    def close(self) -> None:
        self.frontend.stop_accepting()
        self.frontend.stop()
        assert self.frontend.join(Deadline(TIMEOUT_SECONDS))


@pytest.mark.parametrize("end", [MqttFrontend.stop, MqttFrontend.abort])
def test_frontend_that_never_ran_releases_its_descriptor(end: Callable[[MqttFrontend], None]) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    frontend = MqttFrontend(MqttSettings(url="mqtt://127.0.0.1"), Api(events.put), ABOUT, events.put)
    frontend.open()
    frontend.stop_accepting()
    for _ in range(2):
        end(frontend)
    assert frontend._mailbox.fileno() < 0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield started
    started.stop()


class Parts:
    """Starts devices and clients of one broker, and closes those that are left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._parts: list[Device | TestClient] = []

    def device(self, **settings: Any) -> Device:
        started = Device(self.url, **settings)
        self._parts.append(started)
        return started

    def client(self, *topics: str, **options: Any) -> TestClient:
        connected = TestClient(self.url, *topics, **options)
        self._parts.append(connected)
        return connected

    def close(self) -> None:
        while self._parts:
            self._parts.pop().close()


@pytest.fixture
def parts(broker: Mosquitto) -> Iterator[Parts]:
    started = Parts(broker.url)
    yield started
    started.close()


@pytest.fixture
def device(parts: Parts) -> Device:
    return parts.device()


@pytest.fixture
def client(parts: Parts, device: Device) -> TestClient:
    connected = parts.client("voice-agent/#")
    connected.next("voice-agent/kitchen/state")
    return connected


def fields(message: Any) -> dict[str, Any]:
    return dict(json.loads(message.payload))


def test_a_text_is_announced_and_answered_with_its_record(device: Device, client: TestClient) -> None:
    client.publish("voice-agent/kitchen/say", '{"message": "Dinner.", "id": "a", "priority": "important", "ttl": 60}')
    utterance = device.event().utterance
    assert (utterance.id, utterance.text, utterance.source) == ("a", "Dinner.", "mqtt")
    assert utterance.urgency.value == "important" and utterance.delivery.ttl_seconds == 60
    device.notify(Stored("a", True))
    accepted = fields(client.next("voice-agent/kitchen/record"))
    assert accepted == {"device": "kitchen", "id": "a", "state": "accepted", "durable": True}
    device.notify(Record(utterance, "played", "", 1.5))
    played = fields(client.next("voice-agent/kitchen/record"))
    assert played == {"device": "kitchen", "id": "a", "state": "played", "reason": "", "seconds": 1.5}


def test_a_text_reaches_the_whole_fleet_and_groups(parts: Parts) -> None:
    device, client = parts.device(groups=("floor-1",)), parts.client("voice-agent/#")
    client.next("voice-agent/kitchen/availability", contains=b"online")
    for number, topic in enumerate(("all", "group/floor-1", "group/floor-2", "kitchen")):
        client.publish(f"voice-agent/{topic}/say", f"Text {number}.")
    texts = []
    for _ in range(3):
        utterance = device.event().utterance
        texts.append(utterance.text)
        device.notify(Stored(utterance.id, True))
    assert texts == ["Text 0.", "Text 1.", "Text 3."]


def test_a_text_that_is_not_stored_is_sent_again_and_a_stored_one_is_not(parts: Parts) -> None:
    device, client = parts.device(), parts.client("voice-agent/#")
    client.next("voice-agent/kitchen/availability", contains=b"online")
    client.publish("voice-agent/kitchen/say", '{"message": "One.", "id": "one"}')
    client.publish("voice-agent/kitchen/say", '{"message": "Two.", "id": "two"}')
    client.publish("voice-agent/kitchen/say", '{"message": "Three.", "id": "three"}')
    assert [device.event().utterance.id for _ in range(3)] == ["one", "two", "three"]
    device.notify(Stored("one", True))
    device.notify(Stored("two", False))  # in memory only: a crash would lose it
    client.next("voice-agent/kitchen/record", contains=b"two")
    device.kill()
    device = parts.device()
    assert [device.event().utterance.id for _ in range(2)] == ["two", "three"]
    two = Utterance("two", "Two.", source="mqtt")
    device.notify(Stored("two", False))
    device.notify(Record(two, "played"))
    device.notify(Stored("three", True))
    client.next("voice-agent/kitchen/record", contains=b"three")
    device.close()
    device = parts.device()
    client.publish("voice-agent/kitchen/say", '{"message": "Four.", "id": "four"}')
    utterance = device.event().utterance
    assert utterance.id == "four"
    device.notify(Stored("four", True))


def test_a_text_that_was_retained_before_is_ignored(parts: Parts) -> None:
    client = parts.client("voice-agent/#")
    client.publish("voice-agent/attic/say", "An old text.", retain=True)
    client.next("voice-agent/attic/say")
    device = parts.device(topic="voice-agent/attic")
    client.next("voice-agent/attic/availability", contains=b"online")
    client.publish("voice-agent/attic/say", "A new text.")
    utterance = device.event().utterance
    assert utterance.text == "A new text."
    device.notify(Stored(utterance.id, True))


def test_a_text_that_arrives_with_the_retain_flag_is_still_said_to_a_connected_device(
    device: Device, client: TestClient
) -> None:
    # The broker clears the flag for a subscription that exists (MQTT 5.0, 3.3.1.3): the sender means now.
    client.publish("voice-agent/kitchen/say", "Now.", retain=True)
    utterance = device.event().utterance
    device.notify(Stored(utterance.id, True))
    assert utterance.text == "Now."
    client.publish("voice-agent/kitchen/say", b"", retain=True)
    client.next("voice-agent/kitchen/error")


@pytest.mark.parametrize(
    ("topic", "payload", "part"),
    [
        ("say", b"{", "not JSON"),
        ("say", b"\xff", "UTF-8"),
        ("say", b"a" * 65537, "65537 bytes"),
        ("say", b'{"message": "Hi.", "ttl": -1}', "ttl_seconds"),
        ("say", b'{"message": "Hi.", "id": "a b"}', "id has only"),
        ("say", b"...", "only marks"),
        ("volume/set", b"loud", "expected a number"),
    ],
)
def test_a_bad_payload_is_answered_on_the_error_topic(
    device: Device, client: TestClient, topic: str, payload: bytes, part: str
) -> None:
    client.publish(f"voice-agent/kitchen/{topic}", payload)
    answer = fields(client.next("voice-agent/kitchen/error"))
    assert answer["topic"] == f"voice-agent/kitchen/{topic}" and part in answer["error"]
    client.publish("voice-agent/kitchen/say", "Good.")
    utterance = device.event().utterance
    assert utterance.text == "Good."
    device.notify(Stored(utterance.id, True))


def test_commands_are_requests_of_the_daemon(device: Device, client: TestClient) -> None:
    client.publish("voice-agent/kitchen/volume/set", "30")
    assert device.event() == Volume(30, "mqtt")
    client.publish("voice-agent/kitchen/microphone/set", "OFF")
    assert device.event() == MicrophoneMute(True, "mqtt")
    client.publish("voice-agent/kitchen/hush", "PRESS")
    assert device.event() == Hush("mqtt")
    client.publish("voice-agent/kitchen/restart", "PRESS")
    assert device.event() == Restart("mqtt")


def test_a_text_after_a_refused_restart_is_acknowledged(parts: Parts) -> None:
    device, client = parts.device(), parts.client("voice-agent/#")
    client.next("voice-agent/kitchen/availability", contains=b"online")
    client.publish("voice-agent/kitchen/restart", "PRESS")
    assert device.event() == Restart("mqtt")
    client.publish("voice-agent/kitchen/say", '{"message": "One.", "id": "one"}')
    assert device.event().utterance.id == "one"
    device.notify(Stored("one", True))
    client.next("voice-agent/kitchen/record", contains=b"one")
    device.close()
    device = parts.device()
    client.publish("voice-agent/kitchen/say", '{"message": "Two.", "id": "two"}')
    assert device.event().utterance.id == "two", "a text that is not acknowledged is sent again"
    device.notify(Stored("two", True))


def test_a_flood_of_texts_stays_with_the_broker(device: Device, client: TestClient) -> None:
    for number in range(100):
        client.publish("voice-agent/kitchen/say", f'{{"message": "Text {number}.", "id": "{number}"}}')
    waiting = [device.event().utterance for _ in range(RECEIVE_MAXIMUM)]
    client.publish("voice-agent/kitchen/hush", "", qos=0)
    following = device.event()
    assert isinstance(following, Hush), "more than the maximum before the first acknowledgment"
    for number in range(100):
        utterance = waiting.pop(0)
        assert utterance.id == str(number)
        device.notify(Stored(utterance.id, True))
        if number + RECEIVE_MAXIMUM < 100:
            waiting.append(device.event().utterance)


def test_the_state_is_published_when_it_changes(device: Device, client: TestClient) -> None:
    device.notify(STATUS._replace(volume=20, muted=("microphone",)))
    state = fields(client.next("voice-agent/kitchen/state", contains=b'"volume": 20'))
    assert (state["state"], state["microphone"], state["speaker"]) == ("muted", "OFF", "ON")
    device.notify(STATUS)
    client.next("voice-agent/kitchen/state", contains=b'"volume": 70')


def test_turns_are_events_without_texts_unless_they_are_enabled(parts: Parts) -> None:
    for texts in (False, True):
        device, client = parts.device(transcripts=texts), parts.client("voice-agent/kitchen/#")
        client.next("voice-agent/kitchen/availability", contains=b"online")
        device.notify(Woken("alexa"))
        assert fields(client.next("voice-agent/kitchen/turn"))["event_type"] == "wake"
        device.notify(Heard("what time is it"))
        heard = fields(client.next("voice-agent/kitchen/turn"))
        assert heard["event_type"] == "heard" and heard.get("text") == ("what time is it" if texts else None)
        device.notify(Record(Utterance("r", "It is noon.", turn=1), "failed", "no service"))
        failed = fields(client.next("voice-agent/kitchen/turn"))
        assert (failed["event_type"], failed["reason"]) == ("failed", "no service") and ("text" in failed) is texts
        parts.close()


def test_a_press_is_the_payload_of_a_trigger(parts: Parts) -> None:
    device = parts.device(about=About("1.2", has_button=True), topic="voice-agent/hall")
    client = parts.client("homeassistant/#", "voice-agent/hall/button")
    components = fields(client.next("homeassistant/device/voice-agent_hall/config"))["components"]
    for press in ("short", "long"):
        device.notify(ButtonPressed(press))
        trigger = components[f"{press}_press"]
        message = client.next(trigger["topic"])
        assert message.payload == trigger["payload"].encode() and not message.is_retained


@pytest.mark.parametrize(("texts", "name"), [(False, None), (True, "tea")])
def test_changes_of_timers_are_events(parts: Parts, texts: bool, name: str | None) -> None:
    device, client = parts.device(transcripts=texts), parts.client("voice-agent/kitchen/#")
    client.next("voice-agent/kitchen/availability", contains=b"online")
    device.notify(TimersChanged((), ((Timer(1, "tea"), TimerChange.RINGING),)))
    event = fields(client.next("voice-agent/kitchen/timer"))
    assert event["event_type"] == "ringing" and event.get("name") == name


def test_the_device_appears_in_home_assistant_and_again_after_its_restart(parts: Parts) -> None:
    device, client = parts.device(), parts.client("homeassistant/#", "voice-agent/#")
    first = client.next("homeassistant/device/voice-agent_kitchen/config")
    validate(first.topic, fields(first))
    client.next("voice-agent/kitchen/availability", contains=b"online")
    client.publish("homeassistant/status", "online")
    again = client.next("homeassistant/device/voice-agent_kitchen/config")
    assert again.payload == first.payload
    assert fields(client.next("voice-agent/kitchen/state"))["version"] == "1.2"
    device.close()
    assert client.next("voice-agent/kitchen/availability").payload == b"offline"
    device = parts.device(discovery="none")
    assert client.next("homeassistant/device/voice-agent_kitchen/config").payload == b""


def test_a_device_that_dies_is_offline_and_online_again(parts: Parts) -> None:
    client, _device = parts.client("voice-agent/kitchen/availability"), parts.device()
    client.next("voice-agent/kitchen/availability", contains=b"online")
    parts.client(client_id="voice-agent-kitchen")  # the broker ends the session of the device
    assert client.next("voice-agent/kitchen/availability").payload == b"offline"
    assert client.next("voice-agent/kitchen/availability").payload == b"online"


def test_two_devices_with_one_name_get_an_error_that_names_the_cure(parts: Parts) -> None:
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(lines)
    logger = logging.getLogger("agent.frontends.mqtt")
    logger.addHandler(handler)
    try:
        client, _first = parts.client("voice-agent/kitchen/availability"), parts.device()
        client.next("voice-agent/kitchen/availability", contains=b"online")
        parts.device()
        line = lines.get(timeout=TIMEOUT_SECONDS)
        while line.levelname != "ERROR":
            line = lines.get(timeout=TIMEOUT_SECONDS)
    finally:
        logger.removeHandler(handler)
    assert "another device uses the name kitchen" in line.getMessage() and "mqtt.topic" in line.getMessage()


@contextlib.contextmanager
def broker_away(folder: Path) -> Iterator[tuple[Mosquitto, Device, TestClient]]:
    """Yield a broker that has stopped, and a device and a client that were connected to it."""
    own = Mosquitto(folder)
    parts = Parts(own.url)
    try:
        device, client = parts.device(), parts.client("voice-agent/#", session_seconds=600)
        client.next("voice-agent/kitchen/availability", contains=b"online")
        own.stop()
        client.wait_for(lambda: not client.broker.is_connected)
        yield own, device, client
    finally:
        parts.close()
        own.stop()


def test_records_wait_for_a_broker_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with broker_away(tmp_path) as (own, device, client):
        for name in ("a", "b"):
            device.notify(Record(Utterance(name, "Text.", source="mqtt"), "played"))
        own.start()
        assert [fields(client.next("voice-agent/kitchen/record"))["id"] for _ in range(2)] == ["a", "b"]
        assert sum("no connection" in record.getMessage() for record in caplog.records) < 10


def test_a_broker_that_is_away_for_hours_gets_the_newest_records(tmp_path: Path) -> None:
    with broker_away(tmp_path) as (own, device, client):
        for number in range(MAX_RECORDS + 10):
            device.notify(Record(Utterance(f"text-{number}", "Text.", source="mqtt"), "played"))
        own.start()
        newest = {f"text-{number}" for number in range(10, MAX_RECORDS + 10)}
        for _ in range(MAX_RECORDS + 10):  # those that the lost connection had taken are sent again after the others
            newest.discard(fields(client.next("voice-agent/kitchen/record"))["id"])
            if not newest:
                break
        assert not newest


def test_a_flood_on_other_topics_does_not_reach_the_device(device: Device, client: TestClient) -> None:
    for number in range(1000):
        for topic in (f"kitchen/other/{number}", "kitchen/record/x", "all/other", f"room/{number}/wake", "say"):
            client.publish(f"voice-agent/{topic}", b"x" * 100, qos=0)
    client.publish("voice-agent/kitchen/say", "Still here.")
    utterance = device.event().utterance
    assert utterance.text == "Still here."
    device.notify(Stored(utterance.id, True))
    assert device.frontend._rate.wait_seconds() == 0.0, "none of them counts"


def test_a_shutdown_while_the_broker_is_away_ends_at_once() -> None:
    device = Device(f"mqtt://127.0.0.1:{free_port()}")
    device.close()


def test_of_two_devices_in_a_room_the_one_that_heard_the_wake_word_louder_answers(parts: Parts) -> None:
    client = parts.client("voice-agent/+/availability", "voice-agent/room/lounge/wake")
    quiet, loud = (parts.device(topic=f"voice-agent/{name}", room="lounge") for name in ("quiet", "loud"))
    elsewhere = parts.device(topic="voice-agent/elsewhere", room="hall")
    # The broker still has the retained availability of the devices of other tests.
    waiting = {f"voice-agent/{name}/availability" for name in ("quiet", "loud", "elsewhere")}
    while waiting:
        client.pump()
        while not client.messages.empty():
            message = client.messages.get()
            waiting -= {message.topic} if message.payload == b"online" else set()
    elsewhere.notify(Woken("alexa", -5.0))
    quiet.notify(Woken("alexa", -40.0))
    loud.notify(Woken("alexa", -20.0))
    assert quiet.event() == WakeYielded("loud")
    client.next("voice-agent/room/lounge/wake", contains=b"loud")
    for device in (loud, elsewhere):
        device.close()
        assert device.events.empty()


def test_abort_ends_the_wait_for_the_broker(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "FLUSH_SECONDS", 2 * TIMEOUT_SECONDS)
    with Proxy(broker.port) as proxy:
        device, client = Device(f"mqtt://127.0.0.1:{proxy.port}"), TestClient(broker.url, "voice-agent/#")
        client.next("voice-agent/kitchen/state")
        client.close()
        proxy.up = proxy.down = Toxics(black_hole=True)
        connection, waits = device.frontend._broker, threading.Event()
        close = connection.close
        monkeypatch.setattr(connection, "close", lambda *wake: [waits.set(), close(*wake)])
        device.frontend.stop()
        assert waits.wait(TIMEOUT_SECONDS)
        device.kill()


def test_what_the_broker_has_not_confirmed_is_not_sent_after_newer_messages(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with Proxy(broker.port) as proxy:
        device, client = Device(f"mqtt://127.0.0.1:{proxy.port}"), TestClient(broker.url, "voice-agent/#")
        client.next("voice-agent/kitchen/state")
        client.publish("voice-agent/kitchen/say", '{"message": "Dinner.", "id": "a"}')
        utterance = device.event().utterance
        proxy.up = proxy.down = Toxics(black_hole=True)
        device.notify(Stored("a", True))
        device.notify(Status("speaking", "speaking", volume=70))
        client.pump(0.5)
        broker.stop()
        proxy.cut()
        client.pump(0.5)
        device.notify(Record(utterance, "played"))
        device.notify(Status("listening", "idle", volume=30))
        proxy.up = proxy.down = Toxics()
        broker.start()
        client.close()
        client = TestClient(broker.url, "voice-agent/kitchen/#")
        client.next("voice-agent/kitchen/availability", contains=b"online")
        # The answer to a text follows all that the device sends after a reconnect.
        client.publish("voice-agent/kitchen/say", '{"message": "Tea.", "id": "b"}')
        while device.event().utterance.text != "Tea.":
            pass  # the broker delivers "Dinner." again: it did not get the device's acknowledgment
        device.notify(Stored("b", True))
        client.next("voice-agent/kitchen/record", contains=b'"b"')
        client.close()
        client = TestClient(broker.url, "voice-agent/kitchen/state")
        assert fields(client.next("voice-agent/kitchen/state"))["volume"] == 30
        client.close()
        device.close()
    broker.stop()

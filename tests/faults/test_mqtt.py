"""Row 56: announcements over a broker that restarts, to a daemon that is killed."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fault_rows import Record
from support.local_server import LocalServerProcess
from support.mosquitto import Mosquitto, TestClient
from support.supervised import Supervised

from agent.system.threads import Deadline

OPEN_AT_ONCE = 40
TIMEOUT_SECONDS = 1000.0
ENDS = ("played", "failed", "cancelled", "interrupted")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    with LocalServerProcess(tmp_path_factory.mktemp("server"), "--speech", "tone", "--recognition", "none") as running:
        yield running


class Sender:
    """Publishes texts, and collects the records of their ends. Not thread-safe."""

    def __init__(self, url: str, count: int) -> None:
        # A session, so that no record is lost while the broker restarts.
        topics = ("voice-agent/kitchen/record", "voice-agent/kitchen/availability")
        self.client = TestClient(url, *topics, session_seconds=3600)
        # The broker has no session of the device before its first connection.
        self.client.next("voice-agent/kitchen/availability", contains=b"online")
        self.names = [f"text-{number}" for number in range(count)]
        self.sent = 0
        self.ends: dict[str, list[str]] = {}

    def run_until(self, ended: int) -> None:
        """Publish and collect until so many texts have ended."""
        deadline = Deadline(TIMEOUT_SECONDS)
        while len(self.ends) < ended:
            assert not deadline.is_expired, f"{len(self.ends)} of {ended} texts have ended, {self.sent} were sent"
            while self.sent < len(self.names) and self.sent - len(self.ends) < OPEN_AT_ONCE:
                name = self.names[self.sent]
                self.client.wait_for(lambda: self.client.broker.is_connected)
                self.client.publish("voice-agent/kitchen/say", json.dumps({"message": "One.", "id": name}))
                self.sent += 1
            self.client.pump()
            while not self.client.messages.empty():
                message = self.client.messages.get()
                record = json.loads(message.payload) if message.topic.endswith("record") else {"state": ""}
                if record["state"] in ENDS:
                    self.ends.setdefault(record["id"], []).append(record["state"])


@pytest.mark.parametrize(
    ("count", "restarts", "kills"),
    [(12, 2, 1), pytest.param(1000, 5, 5, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
def test_row_56_each_text_is_heard_once_or_recorded_over_a_broker_that_restarts(
    server: LocalServerProcess, tmp_path: Path, record_row: Record, count: int, restarts: int, kills: int
) -> None:
    source = random.Random(56)
    moments = source.sample(range(1, count), restarts + kills)
    steps = sorted([(at, "restart") for at in moments[:restarts]] + [(at, "kill") for at in moments[restarts:]])
    (tmp_path / "broker").mkdir()
    broker = Mosquitto(tmp_path / "broker")
    daemon = Supervised(server.ws, tmp_path, broker.url, "kitchen")
    sender = Sender(broker.url, count)
    try:
        for at, step in steps:
            sender.run_until(at)
            if step == "restart":
                broker.restart()
            else:
                daemon.kill()
        sender.run_until(count)
    finally:
        code = daemon.stop()
        sender.client.close()
        broker.stop()
    heard = Counter(line.split()[1] for line in (tmp_path / "notes").read_text().splitlines())
    states = Counter(states[0] for states in sender.ends.values())
    record_row(56, f"{count} texts, {restarts} restarts of the broker, {kills} kills of the daemon: {dict(states)}")
    assert code == 0 and sorted(sender.ends) == sorted(sender.names)
    for name in sender.names:
        assert heard[name] <= 1, f"{name} was heard twice"
        assert heard[name] == 1 or "played" not in sender.ends[name], f"{name} was not heard"
    assert states["played"] >= count - kills, "only a kill may interrupt a text"

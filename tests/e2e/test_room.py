"""Two devices in one room, each with a microphone of its own, hear the same wake word at two levels."""

from __future__ import annotations

import json
import signal
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.human_voice import spoken
from support.local_server import LocalServerProcess
from support.mosquitto import Mosquitto, TestClient
from support.vcard import VirtualCard

from agent.audio.format import SPEECH

ROUNDS = 5
QUIET_GAIN = 0.1
CONFIG = """\
wake: {{engine: micro, words: [alexa], follow_up_seconds: 0, sound: false}}
transcription: {{url: "{ws}/"}}
synthesis: {{services: [fish], fish: {{url: "{ws}/v1/tts/live"}}}}
responder: {{kind: echo}}
control: {{socket: none}}
mqtt: {{url: "{broker}", topic: voice-agent/{name}, room: lounge}}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServerProcess]:
    (tmp_path / "script").write_text("what time is it")
    options = ("--speech", "tone", "--recognition", "script", "--script", str(tmp_path / "script"))
    with LocalServerProcess(tmp_path, *options) as process:
        yield process


@pytest.mark.slow
def test_the_device_that_hears_the_word_louder_answers_alone(
    agent: Start, broker: Mosquitto, server: LocalServerProcess, tmp_path: Path
) -> None:
    client = TestClient(broker.url, "voice-agent/+/availability", "voice-agent/+/turn", "voice-agent/room/lounge/wake")
    cards, daemons = {}, {}
    for name in ("loud", "quiet"):
        folder = tmp_path / name
        folder.mkdir()
        cards[name] = VirtualCard(folder)
        (folder / "config.yaml").write_text(CONFIG.format(ws=server.ws, broker=broker.url, name=name))
        environment = {**cards[name].env, "STATE_DIRECTORY": str(folder)}
        daemons[name] = agent("run", "--config", str(folder / "config.yaml"), env=environment)
        client.next(f"voice-agent/{name}/availability", contains=b"online")
    speech = array("h", spoken("Alexa, what time is it?"))
    levels = {"loud": speech, "quiet": array("h", [int(QUIET_GAIN * sample) for sample in speech])}
    for _ in range(ROUNDS):
        for name, samples in levels.items():
            cards[name].inject(samples.tobytes(), SPEECH)
        published = [json.loads(client.next("voice-agent/room/lounge/wake").payload) for _ in levels]
        heard = {fields["device"]: fields["level"] for fields in published}
        assert heard["loud"] > heard["quiet"] + 10
        assert json.loads(client.next("voice-agent/loud/turn", contains=b"spoken").payload)["state"] == "played"
    for daemon in daemons.values():
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
    assert daemons["quiet"].errors.count("yielded, device=loud") == ROUNDS
    assert "reply-" not in daemons["quiet"].errors
    assert "yielded" not in daemons["loud"].errors
    client.close()

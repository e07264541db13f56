"""The choice of a voice and a wake word in a running daemon, over mosquitto."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.home_assistant import validate
from support.machine import free_port
from support.mosquitto import Mosquitto, TestClient
from support.running_daemon import Running

from agent.daemon.choices import Choices, options, voice_of
from agent.settings.loader import load
from agent.settings.model import Config

TOPIC = "voice-agent/kitchen"
DEFAULT = (
    f"server: {{port: {free_port()}}}\n"
    """\
microphone: {device: none}
speaker: {device: none}
wake: {engine: micro, words: [alexa, hey_jarvis]}
synthesis: {services: [local], local: {voice: "espeak:en"}}
"""
)
CHOICES = {"voice": ("espeak:en", "espeak:de", "espeak:fr"), "wake_word": ("all", "alexa", "hey_jarvis")}


def with_broker(url: str, text: str = DEFAULT, voices: str = '["espeak:de", "espeak:fr"]') -> str:
    return f"{text}mqtt: {{url: '{url}', topic: {TOPIC}, voices: {voices}}}\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Running]:
    started = Running(tmp_path)
    yield started
    started.close()


def test_a_choice_changes_the_running_daemon_and_survives_its_restart(daemon: Running, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    client = TestClient(broker.url, f"{TOPIC}/state", f"{TOPIC}/error", "homeassistant/#")

    def state(voice: str, word: str) -> None:
        wanted = f'"voice": "{voice}", "wake_word": "{word}"'.encode()
        client.next(f"{TOPIC}/state", contains=wanted)

    daemon.start(with_broker(broker.url))
    discovered = client.next("homeassistant/device/voice-agent_kitchen/config")
    message = json.loads(discovered.payload)
    validate(discovered.topic, message)
    for setting, values in CHOICES.items():
        assert message["components"][setting]["options"] == [*values]
    state("espeak:en", "all")
    client.publish(f"{TOPIC}/voice/set", "espeak:it")
    assert b"expected espeak:en or espeak:de or espeak:fr" in client.next(f"{TOPIC}/error").payload
    client.publish(f"{TOPIC}/voice/set", "espeak:fr")
    state("espeak:fr", "all")
    client.publish(f"{TOPIC}/wake_word/set", "hey_jarvis")
    state("espeak:fr", "hey_jarvis")
    assert "changed=synthesis.local.voice" in daemon.log()
    daemon.reload(with_broker(broker.url, DEFAULT.replace("espeak:en", "espeak:it")))
    assert daemon.stop() == 0
    daemon.start(with_broker(broker.url))
    state("espeak:fr", "hey_jarvis")
    assert daemon.stop() == 0
    client.close()
    broker.stop()


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Config]:
    def read(text: str) -> Config:
        (tmp_path / "config.yaml").write_text(text)
        return load(tmp_path / "config.yaml", {})

    return read


def test_one_value_is_no_choice(loaded: Callable[[str], Config]) -> None:
    url = "mqtt://127.0.0.1"
    assert options(loaded(with_broker(url))) == CHOICES
    assert options(loaded(with_broker(url, voices="[]"))) == {"wake_word": CHOICES["wake_word"]}
    one = DEFAULT.replace(", hey_jarvis", "")
    assert options(loaded(with_broker(url, one))) == {"voice": CHOICES["voice"]}
    silent = f"{DEFAULT}conversation: {{mode: captions}}\n"
    assert options(loaded(with_broker(url, silent))) == {}


@pytest.mark.parametrize(
    ("text", "voices", "expected"),
    [
        (DEFAULT.replace("espeak:en", "espeak:it"), '["espeak:fr"]', "espeak:fr"),
        (DEFAULT, '["espeak:de"]', "espeak:en"),
        (
            DEFAULT.replace("[local]", "[fish]").replace("local: {voice", "fish: {reference_id"),
            '["another"]',
            "espeak:en",
        ),
    ],
    ids=["offered", "removed", "voice of another service"],
)
def test_a_reload_keeps_the_chosen_voice_only_if_the_configuration_offers_it(
    loaded: Callable[[str], Config], text: str, voices: str, expected: str
) -> None:
    url = "mqtt://127.0.0.1"
    choices = Choices(loaded(with_broker(url)), {"voice": "espeak:fr", "wake_word": ""}.__getitem__)
    assert voice_of(choices.configure(loaded(with_broker(url)))) == "espeak:fr"
    assert voice_of(choices.configure(loaded(with_broker(url, text, voices)))) == expected

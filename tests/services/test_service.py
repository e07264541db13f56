"""Tests of the services of the configuration: required keys, and settings that only the codec refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.scripted import Peer, Scripted

from agent.config.secrets import Secret
from agent.errors import ConfigError, ServiceError
from agent.services.connection.websocket import ConnectionTiming, connect
from agent.services.protocols import fish, local, neuphonic, playai
from agent.services.protocols.codec import End, Flush, Text
from agent.services.service import SpeechService, missing_key
from agent.services.settings import SynthesisSettings
from agent.system.threads import Deadline

KEY = Secret(value="a key of the test")
REFERENCE = fish.ReferenceSettings(__file__, "what is said in it")


def nowhere(deadline: Deadline) -> str:
    raise AssertionError("the address is in the configuration")


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", False),
        ("192.168.1.5", False),
        ("localhost", False),
        ("speech.local", False),
        ("raspberrypi", False),
        ("speech.example.com", True),
        ("93.184.216.34", True),
    ],
)
def test_private_host_needs_no_key(host: str, wanted: bool) -> None:
    settings = fish.Settings(url=f"ws://{host}:8394/v1/tts/live", api_key=Secret(credential="missing"))
    synthesis = SynthesisSettings(services=("fish",), sections={"fish": settings})
    assert (missing_key("fish", synthesis) is not None) == wanted


def test_longest_accepted_recording_can_be_sent() -> None:

    def reads(peer: Peer) -> None:
        peer.accept()
        for _ in iter(peer.read_frame, (-1, b"")):
            pass

    with Scripted(reads) as server:
        recording = {"audio": bytes(fish.MAX_START_BYTES - 1000), "text": "what is said in it"}
        codec = fish.Client(f"ws://127.0.0.1:{server.port}/v1/tts/live", "k", references=[recording])
        connection = connect(codec, Deadline(20.0), timing=ConnectionTiming(ping_seconds=None))
        assert connection.send(Text("Hello.")) and connection.send(Flush()) and connection.send(End())
        connection.abort()
    with pytest.raises(ValueError, match="less than"):
        fish.Client("ws://127.0.0.1:1/", "k", references=[{"audio": bytes(fish.MAX_START_BYTES), "text": "too long"}])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("neuphonic", neuphonic.Settings(url="ws://127.0.0.1:1/speak/en?speed=9", api_key=KEY)),
        ("local", local.Settings(url="ws://127.0.0.1:1/speak/en?output_format=mp3")),
        ("fish", fish.Settings(url="ws://127.0.0.1:1/", api_key=KEY, references=(REFERENCE,) * 40)),
    ],
)
def test_settings_that_the_codec_refuses_are_a_configuration_error(name: str, settings: Any) -> None:
    with pytest.raises(ConfigError, match=f"synthesis.{name}: "):
        SpeechService(name, SynthesisSettings(sections={name: settings}), nowhere).open(Deadline(5.0))


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_refused_issued_url_is_an_error_with_its_host_its_status_and_a_remedy(status: str) -> None:

    def refuses(peer: Peer) -> None:
        if not peer.read_request().startswith("POST"):
            peer.answer(status)
            return
        port = peer.sock.getsockname()[1]
        body = json.dumps({"Play3.0-mini": {"webSocketUrl": f"ws://127.0.0.1:{port}/?fal_jwt_token=SECRET12"}}).encode()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with Scripted(refuses) as server:
        settings = playai.Settings(auth_url=f"http://localhost:{server.port}/", api_key=KEY)
        service = SpeechService("playai", SynthesisSettings(sections={"playai": settings}), nowhere)
        with pytest.raises(ServiceError) as caught:
            service.open(Deadline(20.0))
    assert caught.value.permanent and caught.value.status == int(status[:3])
    message = str(caught.value)
    assert "127.0.0.1" in message and "localhost" in message and f"HTTP {status[:3]}" in message
    assert ": check auth_url" in message and "SECRET12" not in message

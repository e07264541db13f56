"""The payloads of messages as requests."""

from __future__ import annotations

import pytest

from agent.frontends.mqtt.requests import MAX_PAYLOAD_BYTES, MqttRequest, read_command, read_say


@pytest.mark.parametrize(
    ("payload", "params"),
    [
        (b"Dinner is ready.", {"text": "Dinner is ready."}),
        ("Das Essen ist fertig, Käse.".encode(), {"text": "Das Essen ist fertig, Käse."}),
        (
            b'{"message": "Hi.", "ttl": 5, "volume": 30, "chime": "gong"}',
            {"text": "Hi.", "ttl_seconds": 5, "volume": 30, "chime": "gong"},
        ),
        (b' {"message": "Hi.", "id": "a", "priority": null}', {"text": "Hi.", "id": "a"}),
        (b"[1, 2]", {"text": "[1, 2]"}),
    ],
)
def test_a_text_is_plain_or_json(payload: bytes, params: dict[str, object]) -> None:
    assert read_say(payload) == MqttRequest("say", params)


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        (b"{", "not JSON"),
        (b'{"message": "\xff"}', "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"{}", "expected text"),
        (b'{"message": 3}', "a number"),
        (b'{"message": "Hi.", "command": "reboot"}', "no key 'command'"),
        (b"a" * (MAX_PAYLOAD_BYTES + 1), "65537 bytes"),
        (b'{"message": "Hi.", "ttl": 1e999}', "not JSON"),
        (b'{"message": ' + b"[" * 5000, "not JSON"),
    ],
)
def test_a_payload_that_is_no_text_is_refused_with_its_reason(payload: bytes, part: str) -> None:
    problem = read_say(payload)
    assert isinstance(problem, str) and part in problem


@pytest.mark.parametrize(
    ("command", "payload", "request_"),
    [
        ("volume/set", b"42", MqttRequest("volume", {"percent": 42})),
        ("volume/set", b"42.6", MqttRequest("volume", {"percent": 43})),
        ("microphone/set", b"OFF", MqttRequest("mute", {"device": "microphone"})),
        ("speaker/set", b"ON", MqttRequest("unmute", {"device": "speaker"})),
        ("listen", b"PRESS", MqttRequest("listen", {})),
        ("hush", b"", MqttRequest("hush", {})),
        ("cancel", b"train-7", MqttRequest("cancel", {"id": "train-7"})),
    ],
)
def test_a_command_is_a_request_of_the_api(command: str, payload: bytes, request_: MqttRequest) -> None:
    assert read_command(command, payload) == request_


@pytest.mark.parametrize("payload", [b"loud", b"-1", b"101", b"nan", b"1e400", b"", b"\xff", b"9" * 70000])
def test_a_volume_that_is_none_is_refused(payload: bytes) -> None:
    assert isinstance(read_command("volume/set", payload), str)


@pytest.mark.parametrize("payload", [b"on", b"1", b"", b"\xff"])
def test_a_switch_knows_on_and_off(payload: bytes) -> None:
    assert isinstance(read_command("speaker/set", payload), str)

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.running_daemon import TIMEOUT_SECONDS, Running
from support.scripted import Peer, Script, Scripted, polite, refuses

from agent.daemon.reload import apply, effective_config
from agent.errors import ConfigError
from agent.settings.model import Config

QUIET = "microphone: {device: none}\nspeaker: {device: none}\nconversation: {mode: announce}\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.close()


def speaking(server: Scripted, key: str, *more: str) -> str:
    service = f'{{url: "ws://127.0.0.1:{server.port}/", api_key: {key}}}'
    return "\n".join([f"{QUIET}synthesis:\n  services: [neuphonic]\n  neuphonic: {service}", *more, ""])


def test_reload_applies_keys_and_settings_and_names_the_pending_ones(daemon: Running) -> None:
    requested = threading.Semaphore(0)

    def then(answer: Script) -> Script:
        def script(peer: Peer) -> None:
            peer.read_request()
            requested.release()
            answer(peer)

        return script

    with Scripted(then(refuses("401 Unauthorized")), then(polite)) as server:
        daemon.start(speaking(server, "old-key-0123"))
        assert "neuphonic refused the key" in daemon.until(lambda words: "refused" in words)
        words = daemon.reload(speaking(server, "new-key-4567", "logging: {level: debug}", "server: {port: 8399}"))
        assert words == "READY=1\nSTATUS=no speech service has answered yet"
        assert requested.acquire(timeout=TIMEOUT_SECONDS)
        assert requested.acquire(
            timeout=TIMEOUT_SECONDS
        )  # at once, although a rejected key delays the next attempt by a minute
        assert daemon.stop() == 0
    assert server.peers[0].header("x-api-key") == "old-key-0123"
    assert server.peers[1].header("x-api-key") == "new-key-4567"
    assert "configuration: reloaded, changed=" in daemon.log() and "synthesis.neuphonic.api_key" in daemon.log()
    assert "restart the daemon to apply server.port" in daemon.log()
    assert "key-4567" not in daemon.log() and "key-0123" not in daemon.log()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("speakr: {volume: 3}\nlogging: {level: loud}\n", "speakr"),
        ("synthesis: {services: [neuph", "not YAML"),  # half-written
        ("synthesis: {services: [fish]}\n", "no key"),
        ("responder: {kind: webhook}\n", "responder.webhook.url"),
    ],
)
def test_invalid_file_changes_nothing_and_is_reported(daemon: Running, text: str, why: str) -> None:
    with Scripted(polite) as server:
        daemon.start(speaking(server, "old-key-0123"))
        status = daemon.reload(QUIET + text)
        assert status.startswith("READY=1\nSTATUS=the new configuration is not used: ") and why in status
        if "loud" in text:
            assert "2 errors, first " in status
            assert '"loud" is not known here' in daemon.log()
        good = daemon.reload(speaking(server, "old-key-0123"))
        assert "is not used" not in good
        assert daemon.stop() == 0


def test_replaced_connection_gets_its_end_mark(daemon: Running) -> None:
    received: list[list[tuple[int, bytes]]] = []
    listens = threading.Event()

    def listener(peer: Peer) -> None:
        peer.accept()
        listens.set()
        received.append(peer.read_all())

    with Scripted(listener) as old, Scripted(polite) as new:
        daemon.start(speaking(old, "old-key-0123"))
        assert listens.wait(TIMEOUT_SECONDS)
        daemon.reload(speaking(new, "old-key-0123"))
        assert new.arrived.acquire(timeout=TIMEOUT_SECONDS)
        old.join()
        assert daemon.stop() == 0
    assert [json.loads(data)["text"] for opcode, data in received[0] if opcode == 1] == ["<STOP>"]


def test_reload_that_removes_the_responder_of_a_present_wake_word_names_the_restart() -> None:
    from agent.settings.loader import load

    new = load(None, {"VOICE_AGENT_WAKE__ENGINE": "wyoming"})
    old = new._replace(wake=new.wake._replace(words=("alexa: webhook",)))
    pipeline: Any = SimpleNamespace(responder=object(), device_control=None, state_directory=None, wake_word=None)
    with pytest.raises(ConfigError, match=r"responder\.webhook\.url .*, or restart the daemon"):
        apply(old, new, pipeline, print, lambda config: None)


def test_effective_config_keeps_values_that_need_a_restart() -> None:
    from agent.config.fields import changes
    from agent.settings.loader import load

    old = load(None, {})
    new = load(None, {"VOICE_AGENT_SERVER__PORT": "1234", "VOICE_AGENT_SPEAKER__VOLUME": "7",
                      "VOICE_AGENT_SPEAKER__DEVICE": "none", "VOICE_AGENT_RESPONDER__KIND": "echo",
                      "VOICE_AGENT_CONVERSATION__SILENCE_SECONDS": "1.5"})  # fmt: skip
    effective = effective_config(old, new)
    assert set(changes(old, effective)) == {"speaker.volume", "responder.kind", "conversation.silence_seconds.unsure"}
    assert set(changes(effective, new)) == {"server.port", "speaker.device"}  # the next reload reports them again


def test_effective_config_keeps_the_transcription_of_captions() -> None:
    from agent.settings.loader import load

    old: Config = load(None, {"VOICE_AGENT_CONVERSATION__MODE": "captions"})
    new = load(None, {"VOICE_AGENT_CONVERSATION__MODE": "captions",
                      "VOICE_AGENT_TRANSCRIPTION__URL": "ws://127.0.0.1:99/"})  # fmt: skip
    assert effective_config(old, new).transcription == old.transcription

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.scripted import Peer, Script, Scripted, polite, refuses

from agent.daemon.reload import effective_config
from agent.settings.model import Config

TIMEOUT_SECONDS = 60.0
QUIET = "microphone: {device: none}\nspeaker: {device: none}\nconversation: {mode: announce}\n"


class Running:
    """A daemon process with its notifications to systemd and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(TIMEOUT_SECONDS)
        self._log = (folder / "log").open("w")
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, text: str) -> None:
        new = self.folder / "config.new"
        new.write_text(text)
        new.chmod(0o600)
        os.replace(new, self.folder / "config.yaml")

    def start(self, text: str) -> str:
        self.write(text)
        environ = {**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"),
                   "VOICE_AGENT_CONTROL__SOCKET": str(self.folder / "control"),
                   "STATE_DIRECTORY": str(self.folder / "state")}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(self.folder / "config.yaml")],
            cwd=Path(__file__).parents[2],
            env=environ,
            stderr=self._log,
        )
        return self.until(lambda words: "READY=1" in words)

    def reload(self, text: str) -> str:
        """Reload, and return the notification at its end."""
        assert self.process is not None
        self.write(text)
        self.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in self.until(lambda words: words.startswith("RELOADING=1"))
        return self.until(lambda words: "READY=1" in words)

    def until(self, met: Callable[[str], bool]) -> str:
        while True:
            words = self.notify.recv(4096).decode()
            if met(words):
                return words

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.until(lambda words: "STOPPING=1" in words)
        return self.process.wait(TIMEOUT_SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT_SECONDS)
        self.notify.close()
        self._log.close()


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

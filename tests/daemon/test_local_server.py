from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.machine import free_port

from agent.daemon.connection_builder import is_local_server_url, local_server_settings, local_server_url
from agent.daemon.local_server import LocalServer
from agent.services.protocols.wyoming import Settings as WyomingSettings
from agent.services.service import SpeechService
from agent.services.settings import SynthesisSettings, TranscriptionSettings
from agent.settings.model import Config, ServerSettings
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 30.0
SETTINGS = ServerSettings()._replace(host="127.0.0.1", port=0, speech="tone", recognition="none")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    made = LocalServer(SETTINGS)
    yield made
    made.stop()


@pytest.mark.parametrize("want", [errno.EAGAIN, errno.EMFILE, errno.ENOMEM])
def test_server_is_started_again_after_a_failed_start(
    server: LocalServer, want: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, refused = subprocess.Popen, threading.Event()

    def none_left(*arguments: Any, **more: Any) -> Any:
        if refused.is_set():
            return real(*arguments, **more)
        refused.set()
        raise OSError(want, "nothing left")

    monkeypatch.setattr(subprocess, "Popen", none_left)
    server.start()
    assert server.url(Deadline(TIMEOUT_SECONDS)).startswith("ws://127.0.0.1:")
    assert "cannot be started" in caplog.text and "nothing left" in caplog.text


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes that are started."""
    started: list[subprocess.Popen[str]] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return started


def test_invalid_address_is_logged_and_ignored(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = subprocess.Popen
    program = "print('listening on 127.0.0.1:what\\nlistening on 127.0.0.1:7', flush=True); input()"
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **more: real([sys.executable, "-c", program], **more))
    server.start()
    assert server.url(Deadline(TIMEOUT_SECONDS)) == "ws://127.0.0.1:7"
    assert "invalid address" in caplog.text and "127.0.0.1:what" in caplog.text


def test_reconfigure_restarts_only_to_add_a_recognizer(
    server: LocalServer, children: list[subprocess.Popen[str]]
) -> None:
    server.start()
    first = server.url(Deadline(TIMEOUT_SECONDS))
    server.reconfigure(SETTINGS._replace(port=0))
    assert server.url(Deadline(TIMEOUT_SECONDS)) == first and len(children) == 1
    server.reconfigure(SETTINGS._replace(recognition="script", script="/dev/null"))
    assert server.url(Deadline(TIMEOUT_SECONDS))
    old, new = children
    assert old.poll() is not None and new.poll() is None
    assert "script" in list(new.args)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "ws://localhost:8394/"),
        ("0.0.0.0", "ws://127.0.0.1:8394/"),
        ("0.0.0.0", "ws://localhost:8394/"),
        ("localhost", "ws://127.0.0.1:8394/"),
        ("localhost", "ws://localhost:8394/"),
        ("::", "ws://[::1]:8394/"),
        ("::1", "ws://localhost:8394/"),
    ],
)
def test_is_local_server_url_accepts_every_name_of_the_host(host: str, url: str) -> None:
    config = Config(server=ServerSettings(host=host), transcription=TranscriptionSettings(url=url))
    assert is_local_server_url(url, config)
    settings = local_server_settings(config)
    assert settings is not None and settings.recognition == "auto"


def test_is_local_server_url_rejects_other_hosts_and_ports() -> None:
    config = Config()._replace(server=ServerSettings()._replace(host="0.0.0.0"))
    assert not is_local_server_url("ws://192.168.1.7:8394/", config) and not is_local_server_url(
        "ws://127.0.0.1:8395/", config
    )


def test_url_of_a_wildcard_host_is_a_loopback_address() -> None:
    server = LocalServer(SETTINGS._replace(host="0.0.0.0"))
    server.start()
    try:
        assert server.url(Deadline(TIMEOUT_SECONDS)).startswith("ws://127.0.0.1:")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "ws://[::1]:8394"), ("::", "ws://[::1]:8394"), ("0.0.0.0", "ws://127.0.0.1:8394")],
)
def test_local_server_url_of_an_external_server_follows_the_configuration(host: str, url: str) -> None:
    config = Config()._replace(server=ServerSettings()._replace(host=host, start=False))
    assert local_server_url(config, None)(Deadline(1.0)) == url


def test_wyoming_clients_start_the_server_with_its_recognizer() -> None:
    server = ServerSettings(wyoming=10300)
    config = Config(server=server, transcription=TranscriptionSettings(protocol="wyoming", url="tcp://other"))
    assert local_server_settings(config) == server
    assert not is_local_server_url("tcp://127.0.0.1:8394", config)


def test_a_wyoming_port_that_is_in_use_leaves_the_voice_working() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = LocalServer(SETTINGS._replace(wyoming=other.getsockname()[1]))
        server.start()
        try:
            assert server.url(Deadline(TIMEOUT_SECONDS)).startswith("ws://127.0.0.1:")
        finally:
            server.stop()


def test_wyoming_clients_reach_the_server_of_the_daemon() -> None:
    port = free_port()
    server = LocalServer(SETTINGS._replace(wyoming=port))
    server.start()
    try:
        synthesis = SynthesisSettings().with_settings("wyoming", WyomingSettings(url=f"tcp://127.0.0.1:{port}"))
        service = SpeechService("wyoming", synthesis, server.url)
        deadline = Deadline(TIMEOUT_SECONDS)
        server.url(deadline)  # waits until the server listens
        service.open(deadline).finish(deadline)
    finally:
        server.stop()

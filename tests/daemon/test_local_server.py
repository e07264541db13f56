"""The daemon's own server is kept alive, whatever keeps it from starting."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.daemon.builder import own_server, own_url, points_at
from agent.daemon.local_server import LocalServer
from agent.services.settings import TranscriptionSettings
from agent.settings.model import Config, ServerSettings
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 30.0
SETTINGS = replace(ServerSettings(), host="127.0.0.1", port=0, speech="tone", recognition="none")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    made = LocalServer(SETTINGS)
    yield made
    made.stop()


@pytest.mark.parametrize("want", [errno.EAGAIN, errno.EMFILE, errno.ENOMEM])
def test_a_machine_that_has_no_process_to_give_for_a_moment_gets_its_server_later(
    server: LocalServer, want: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine is short of processes for a second. That ended the thread that keeps the server, without a word, and
    there was no local voice until the next restart."""
    real, refused = subprocess.Popen, threading.Event()

    def none_left(*arguments: Any, **more: Any) -> Any:
        if refused.is_set():
            return real(*arguments, **more)
        refused.set()
        raise OSError(want, "nothing left")

    monkeypatch.setattr(subprocess, "Popen", none_left)
    server.start()
    assert server.url(Deadline(TIMEOUT_SECONDS)).startswith("ws://127.0.0.1:")
    assert "it cannot be started" in caplog.text and "nothing left" in caplog.text


def test_an_address_that_is_none_is_told_and_harms_nobody(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    server._listens("127.0.0.1:what")
    assert "which is no address" in caplog.text
    server.start()
    assert server.url(Deadline(TIMEOUT_SECONDS)).startswith("ws://127.0.0.1:")


def test_a_server_that_is_to_recognise_speech_too_is_begun_anew(server: LocalServer) -> None:
    """A reload was the first to need local recognition; the server that ran already had been started without ears, and
    stayed deaf."""
    server.start()
    first = server.url(Deadline(TIMEOUT_SECONDS))
    server.use(replace(SETTINGS, port=0))
    assert server.url(Deadline(TIMEOUT_SECONDS)) == first, "nothing else is a reason to end it"
    process = server._process
    assert process is not None
    server.use(replace(SETTINGS, recognition="script", script="/dev/null"))
    assert server.url(Deadline(TIMEOUT_SECONDS))
    anew = server._process
    assert anew is not None and anew is not process and process.poll() is not None
    assert "script" in list(anew.args)  # type: ignore[call-overload]


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
def test_a_server_is_known_by_every_name_that_it_is_reached_under(host: str, url: str) -> None:
    """``server.host: 0.0.0.0``, to share it with the house: its own daemon took its ears away, and then complained that
    it could not hear. So did ``localhost``."""
    config = Config(server=ServerSettings(host=host), transcription=TranscriptionSettings(url=url))
    assert points_at(url, config)
    settings = own_server(config)
    assert settings is not None and settings.recognition == "auto"


def test_a_server_elsewhere_is_not_taken_for_one_of_our_own() -> None:
    config = replace(Config(), server=replace(ServerSettings(), host="0.0.0.0"))
    assert not points_at("ws://192.168.1.7:8394/", config) and not points_at("ws://127.0.0.1:8395/", config)


def test_a_server_that_listens_on_every_address_is_reached_at_this_machine() -> None:
    """0.0.0.0 is no address to dial: it counts as one outside, so the daemon's own voice was refused for want of
    encryption."""
    server = LocalServer(replace(SETTINGS, host="0.0.0.0"))
    server.start()
    try:
        assert server.url(Deadline(TIMEOUT_SECONDS)).startswith("ws://127.0.0.1:")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "ws://[::1]:8394"), ("::", "ws://[::1]:8394"), ("0.0.0.0", "ws://127.0.0.1:8394")],
)
def test_a_server_that_somebody_else_runs_is_dialled_where_it_is_reached(host: str, url: str) -> None:
    config = replace(Config(), server=replace(ServerSettings(), host=host, start=False))
    assert own_url(config, None)(Deadline(1.0)) == url

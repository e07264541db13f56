"""The daemon's own server is kept alive, whatever keeps it from starting."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.config.model import Server
from agent.local_server import LocalServer
from agent.threads import Deadline

PATIENCE_SECONDS = 30.0
SETTINGS = replace(Server(), host="127.0.0.1", port=0, speech="tone", recognition="none")


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
    assert server.url(Deadline(PATIENCE_SECONDS)).startswith("ws://127.0.0.1:")
    assert "it cannot be started" in caplog.text and "nothing left" in caplog.text


def test_an_address_that_is_none_is_told_and_harms_nobody(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    server._listens("127.0.0.1:what")
    assert "which is no address" in caplog.text
    server.start()
    assert server.url(Deadline(PATIENCE_SECONDS)).startswith("ws://127.0.0.1:")


def test_a_server_that_is_to_recognise_speech_too_is_begun_anew(server: LocalServer) -> None:
    """A reload was the first to need local recognition; the server that ran already had been started without ears, and
    stayed deaf."""
    server.start()
    first = server.url(Deadline(PATIENCE_SECONDS))
    server.use(replace(SETTINGS, port=0))
    assert server.url(Deadline(PATIENCE_SECONDS)) == first, "nothing else is a reason to end it"
    process = server._process
    assert process is not None
    server.use(replace(SETTINGS, recognition="script", script="/dev/null"))
    assert server.url(Deadline(PATIENCE_SECONDS))
    anew = server._process
    assert anew is not None and anew is not process and process.poll() is not None
    assert "script" in list(anew.args)  # type: ignore[call-overload]

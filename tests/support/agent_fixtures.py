"""Fixtures and helpers for tests that run ``voice-agent`` as a process; the conftest files import the fixtures."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from support.processes import Process, Supervision, WireLoggedServer

SCRIPT = "what time is it please\nand what day is it today\n"


class Start(Protocol):
    def __call__(
        self,
        *arguments: str | bytes,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
        stdout: int = subprocess.PIPE,
        under: Sequence[str] = (),
    ) -> Process: ...


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Start]:
    """Start ``voice-agent ARGUMENTS`` in the test's folder unless another is named; kill what remains afterwards."""
    started: list[Process] = []

    def start(
        *arguments: str | bytes,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
        stdout: int = subprocess.PIPE,
        under: Sequence[str] = (),
    ) -> Process:
        process = Process(*arguments, env=env, cwd=cwd or tmp_path, stdin=stdin, stdout=stdout, under=under)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def supervision(tmp_path: Path) -> Iterator[Supervision]:
    manager = Supervision(tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], str]:
    """Write a configuration and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return str(path)

    return write


def scripted_server(folder: Path, script: str = SCRIPT, *arguments: str) -> WireLoggedServer:
    """Return a server that speaks tones and recognizes the lines of ``script``."""
    path = folder / "script.txt"
    path.write_text(script)
    return WireLoggedServer(
        folder / "server", "--speech", "tone", "--recognition", "script", "--script", str(path), *arguments
    )


def service_config(server: WireLoggedServer, service: str, **settings: object) -> str:
    """Return the configuration of one speech service at the local server."""
    urls = {
        "neuphonic": {"url": f"{server.ws}/speak/en"},
        "playai": {"auth_url": f"{server.http}/api/v1/tts/websocket-auth"},
        "vachana": {"url": f"{server.ws}/api/v1/tts"},
        "fish": {"url": f"{server.ws}/v1/tts/live"},
        "local": {"url": server.ws},
    }
    lines = "".join(f"    {name}: {value}\n" for name, value in {**urls[service], **settings}.items())
    return f"synthesis:\n  services: [{service}]\n  {service}:\n{lines}"


def write_wav(path: Path, pcm: bytes, rate: int = 16000, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(pcm)


def assert_end_mark(lines: list[dict[str, Any]]) -> None:
    """Assert that the last message of a session is its only end mark, and that the session closed normally."""
    service = lines[0]["service"]
    messages = [line for line in lines if line["kind"] in ("text", "binary")]
    if service == "transcription":
        texts = [line["summary"] for line in messages if line["kind"] == "text"]
        assert [text for text in texts if text != '{"final": 1}'] == ["eof"], lines  # a request for an early final
        assert messages[-1]["kind"] == "text"
    elif service == "fish":
        assert [line for line in messages if "End" in line.get("events", [])] == messages[-1:], lines
    elif service == "neuphonic":
        assert messages[-1]["summary"].endswith('<STOP>"}') or messages[-1]["summary"].endswith("<STOP>"), lines
    assert lines[-1]["kind"] == "close"
    # The server waits one second for the client's half of the closing handshake. A close that takes so long is due to
    # a stalled machine; a client that just disconnects is seen immediately.
    is_late = messages and lines[-1]["time"] - messages[-1]["time"] >= 1.0
    assert lines[-1]["summary"] in ("1000", "1001", "1005", *(["1006"] if is_late else [])), lines

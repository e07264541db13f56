"""Every process of a test is reaped, whatever happens to the test."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from support.processes import Process, Supervision, Wired

from agent.server.tts import tone

SCRIPT = "what time is it please\nand what day is it today\n"


class Start(Protocol):
    def __call__(
        self,
        *arguments: str | bytes,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
        stdout: int = subprocess.PIPE,
    ) -> Process: ...


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Start]:
    """Starts ``voice-agent ARGUMENTS``; in the test's own folder, unless another is named."""
    started: list[Process] = []

    def start(
        *arguments: str | bytes,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bool = False,
        stdout: int = subprocess.PIPE,
    ) -> Process:
        process = Process(*arguments, env=env, cwd=cwd or tmp_path, stdin=stdin, stdout=stdout)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """A server that speaks in tones and hears what its script says."""
    folder = tmp_path_factory.mktemp("tones")
    script = folder / "script.txt"
    script.write_text(SCRIPT)
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script))
    with Wired(folder / "server", *arguments) as server:
        yield server


@pytest.fixture
def supervision(tmp_path: Path) -> Iterator[Supervision]:
    watcher = Supervision(tmp_path)
    yield watcher
    watcher.close()


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three seconds of loud sound, 16 kHz mono."""
    path = tmp_path / "speech.wav"
    write_wav(path, tone.pcm("one two three four five six seven eight nine ten eleven twelve a b c", 16000))
    return path


def write_wav(path: Path, pcm: bytes, rate: int = 16000, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(pcm)

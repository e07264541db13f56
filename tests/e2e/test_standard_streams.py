"""Closed, full and unread standard streams: one message, an exit code, no hang."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import service_config, write_wav
from support.processes import Process, WireLoggedServer

from agent.audio.format import SPEECH

BUFFERED = {"PYTHONUNBUFFERED": ""}  # as in any shell


class Shell:
    """Runs ``voice-agent ARGUMENTS REDIRECTIONS`` in a shell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []

    def __call__(self, redirections: str, *arguments: str) -> tuple[int, list[str]]:
        process = Process(
            *arguments, env=BUFFERED, cwd=self._folder, under=("sh", "-c", f'exec "$0" "$@" {redirections}')
        )
        self._started.append(process)
        return process.end(), process.error_lines()

    def close(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    it = Shell(tmp_path)
    yield it
    it.close()


def test_a_closed_or_unreadable_stdin_is_rejected(
    shell: Shell, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """An error in the reader's thread ends the command."""
    say = ("say", "--config", write_config(service_config(tone_server, "local")), "--output", "out.wav", "-")
    code, errors = shell("<&-", *say)
    assert code == 2 and len(errors) == 1 and "stdin contained no words" in errors[0]
    code, errors = shell(f"0>{tmp_path}/only_for_writing", *say)
    assert code == 2 and len(errors) == 1 and "stdin cannot be read" in errors[0]


def test_transcribe_from_a_closed_stdin_says_that_there_is_no_audio(
    shell: Shell, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    config = write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n")
    said = ["voice-agent: no speech: stdin contained no audio"]
    assert shell("<&-", "transcribe", "--config", config, "-") == (0, said)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_commands_work_with_closed_standard_streams(
    shell: Shell, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path, closed: str
) -> None:
    config = write_config(service_config(tone_server, "local"))
    assert shell(closed, "say", "--config", config, "--output", "out.wav", "hello") == (0, [])
    with wave.open(str(tmp_path / "out.wav"), "rb") as file:
        assert file.getnframes() > 0


@pytest.mark.parametrize(
    "script", ['exec "$0" "$@" 2>/dev/full', '"$0" "$@" 2>&1 >/dev/null | true; exit "${PIPESTATUS[0]}"']
)
def test_stderr_that_takes_nothing_does_not_change_the_exit_code(tmp_path: Path, script: str) -> None:
    (tmp_path / "bad.yaml").write_text("speaker: {volumes: 3}\n")
    words = ("config", "check", "--config", str(tmp_path / "bad.yaml"))
    assert Process(*words, env=BUFFERED, under=("bash", "-c", script)).end() == 78


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("config", "schema"), ("devices",)])
def test_output_to_a_full_device_is_reported(shell: Shell, command: tuple[str, ...]) -> None:
    code, errors = shell(">/dev/full", *command)
    assert code == 2
    assert errors == ["voice-agent: standard output cannot be written: No space left on device"]


@pytest.mark.parametrize("command", [("config", "check"), ("devices",), ("--version",)])
def test_output_that_is_open_for_reading_only_is_reported(shell: Shell, command: tuple[str, ...]) -> None:
    code, errors = shell("1</dev/null", *command)
    assert code == 2
    assert errors == ["voice-agent: standard output cannot be written: it is open for reading only"]


@pytest.mark.parametrize("command", [("config", "check"), ("devices", "--json"), ("--version",)])
def test_a_closed_stdout_pipe_is_no_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Output that fits into the buffer is only written at the exit."""
    reading, writing = os.pipe()
    os.close(reading)
    process = Process(*command, env=BUFFERED, cwd=tmp_path, stdout=writing)
    os.close(writing)
    try:
        assert (process.end(), process.error_lines()) == (0, [])
    finally:
        process.kill()


def test_transcribe_ends_when_its_output_pipe_closes(
    write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """``transcribe --json F.wav | head -1``: the end of the main thread ends the recognizer."""
    reading, writing = os.pipe()
    os.close(reading)
    config = write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n")
    process = Process(
        "transcribe", "--config", config, "--json", "-", env=BUFFERED, cwd=tmp_path, stdin=True, stdout=writing
    )
    os.close(writing)
    try:
        process.write(bytes(SPEECH.bytes_of(2.0)))  # as much as a pipe takes at once, and then nothing more
        assert process.end() == 0
        assert not [line for line in process.error_lines() if not line.startswith("... ")]
    finally:
        process.kill()


def test_a_transcript_to_a_full_device_is_reported(
    shell: Shell, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "sound.wav", bytes(SPEECH.bytes_of(3.0)))
    config = write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n")
    code, errors = shell(">/dev/full", "transcribe", "--config", config, "sound.wav")
    assert code == 2
    assert errors[-1] == "voice-agent: standard output cannot be written: No space left on device"


def test_invalid_stdin_is_reported_after_unpronounceable_text(
    shell: Shell, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    """``say -`` of a picture: the message names the first bad byte."""
    (tmp_path / "picture").write_bytes(b"{\n\xff\xd8\xff")
    with WireLoggedServer(tmp_path / "server", "--speech", "flite", "--recognition", "none") as server:
        config = write_config(service_config(server, "local"))
        code, errors = shell(f"<{tmp_path}/picture", "say", "--config", config, "--output", "out.wav", "-")
    assert code == 2 and len(errors) == 1 and "stdin is not UTF-8 after 2 characters" in errors[0]

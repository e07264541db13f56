"""Captions into a pipe, with a reader that leaves, and with one that stands still: the real command."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from server.running import Running

from agent.server import tone
from e2e.conftest import write_wav

PATIENCE_SECONDS = 30.0


@pytest.fixture
def command(tmp_path: Path, configured: Callable[[str], str]) -> list[str]:
    """To be completed with the address of a server."""
    write_wav(tmp_path / "talk.wav", tone.pcm("one two three four " * 8, 16000))
    config = configured(
        f"microphone: {{device: 'file:{tmp_path}/talk.wav'}}\ncontrol: {{socket: none}}\n"
        "conversation: {mode: captions}\nserver: {start: false}\nshutdown_seconds: 2.0\n"
    )
    return [sys.executable, "-m", "agent.cli", "run", "--config", config]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "STATE_DIRECTORY": str(tmp_path / "state")}


def test_a_reader_that_wants_one_line_only_ends_it_in_good_order(
    command: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    """``voice-agent run | head -1``: the second caption found a closed pipe, its error ended the main loop, the same
    error the end, and the process stayed, deaf to SIGTERM."""
    (tmp_path / "script.txt").write_text("good evening\nand welcome\n")
    with Running(tmp_path, "--speech", "tone", "--recognition", "script", "--script", f"{tmp_path}/script.txt") as it:
        environ["VOICE_AGENT_TRANSCRIPTION__URL"] = f"{it.ws}/"
        with (tmp_path / "log").open("w") as log:
            agent = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log)
            head = subprocess.run(
                ["head", "-1"], stdin=agent.stdout, capture_output=True, timeout=PATIENCE_SECONDS, check=True
            )
            assert agent.stdout is not None
            agent.stdout.close()
            assert agent.wait(PATIENCE_SECONDS) == 0
    assert head.stdout == b"good evening\n"
    said = (tmp_path / "log").read_text()
    assert "the reader of the captions" in said and "Traceback" not in said


def test_a_reader_that_stands_still_does_not_keep_sigterm_from_ending_it(
    command: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "script.txt").write_text("good evening\n" * 50)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, bytes(4096))
    with Running(tmp_path, "--speech", "tone", "--recognition", "script", "--script", f"{tmp_path}/script.txt") as it:
        environ["VOICE_AGENT_TRANSCRIPTION__URL"] = f"{it.ws}/"
        log = (tmp_path / "log").open("w")
        with log, subprocess.Popen(["tail", "-f", log.name], stdout=subprocess.PIPE) as told:
            agent = subprocess.Popen(command, env=environ, stdout=writer, stderr=log)
            assert told.stdout is not None
            patience = threading.Timer(PATIENCE_SECONDS, told.kill)
            patience.start()
            for line in told.stdout:
                if b"heard: " in line:
                    break
            patience.cancel()
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(PATIENCE_SECONDS) == 0
            told.terminate()
    os.close(reader)
    os.close(writer)

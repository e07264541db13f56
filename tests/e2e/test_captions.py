"""Captions into a pipe whose reader closes it or stops reading."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start, write_wav
from support.local_server import LocalServerProcess

from agent.server.tts import tone

TIMEOUT_SECONDS = 30.0


@pytest.fixture
def config(tmp_path: Path, write_config: Callable[[str], str]) -> Iterator[str]:
    """A configuration with more captions than any test reads."""
    write_wav(tmp_path / "talk.wav", tone.pcm("one two three four " * 8, 16000))
    (tmp_path / "script.txt").write_text("good evening\n" + "and welcome\n" * 200)
    with LocalServerProcess(
        tmp_path, "--speech", "tone", "--recognition", "script", "--script", f"{tmp_path}/script.txt"
    ) as it:
        yield write_config(
            f"microphone: {{device: 'file:{tmp_path}/talk.wav'}}\ncontrol: {{socket: none}}\n"
            f"conversation: {{mode: captions}}\nserver: {{start: false}}\ntranscription: {{url: '{it.ws}/'}}\n"
        )


def test_a_closed_caption_pipe_ends_the_daemon_cleanly(agent: Start, config: str) -> None:
    """``voice-agent run | head -1``: the second caption fails with EPIPE, also in the shutdown."""
    reader, writer = os.pipe()
    process = agent("run", "--config", config, stdout=writer)
    os.close(writer)
    with open(reader, "rb") as captions:
        head = subprocess.run(["head", "-1"], stdin=captions, capture_output=True, timeout=TIMEOUT_SECONDS, check=True)
    assert process.end() == 0, process.errors
    assert head.stdout == b"good evening\n"
    assert "the reader of the captions" in process.errors and "Traceback" not in process.errors


def test_sigterm_ends_captions_into_a_blocked_pipe(agent: Start, config: str) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, bytes(4096))
    process = agent("run", "--config", config, stdout=writer)
    os.close(writer)
    with open(reader, "rb"):
        process.stderr.await_text("heard: ")
        process.signal(signal.SIGTERM)
        assert process.end() == 0, process.errors

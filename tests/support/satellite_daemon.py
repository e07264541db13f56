"""A daemon that is a satellite: its microphone is a file with one question, its speaker is a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path

from agent.server.tts import tone
from support.machine import free_port

STOP_SECONDS = 30.0
RATE = 16000


@contextlib.contextmanager
def satellite(folder: Path) -> Iterator[int]:
    """Run the daemon; yield the port of the satellite. It ends with SIGTERM and code 0."""
    port = free_port()
    with wave.open(str(folder / "question.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(RATE) + tone.pcm("one two three four five six", RATE) + bytes(2 * RATE * 60))
    url = f"tcp://127.0.0.1:{port}"
    config = {
        "conversation": {"mode": "assistant", "vad": "energy"},
        "microphone": {"device": f"file:{folder / 'question.wav'}"},
        "speaker": {"device": f"file:{folder / 'spoken.wav'}"},
        "control": {"socket": "none"},
        "satellite": {"port": port, "area": "Kitchen"},
        "transcription": {"protocol": "wyoming", "url": url},
        "responder": {"kind": "wyoming", "wyoming": {"url": url}},
        "synthesis": {"services": ["wyoming", "local"], "wyoming": {"url": url}},
        "server": {"port": 0, "speech": "tone", "recognition": "none"},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "agent", "run", "--config", path]
    with (folder / "log").open("w") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            yield port
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0, (folder / "log").read_text()
        finally:
            process.kill()


def seconds_at(path: Path, level: int) -> float:
    """Return how long the recording stays at this level."""
    with wave.open(str(path)) as file:
        samples = array("h", file.readframes(file.getnframes()))
        frames = file.getframerate() * file.getnchannels()
    return sum(abs(sample - level) < 200 for sample in samples) / frames

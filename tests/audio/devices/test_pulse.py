"""A sound server as on a desktop: exact playback, a restart of the server, and a frozen server."""

from __future__ import annotations

import array
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes import Process, WireLoggedServer
from support.pulse import Pulse

from agent.audio.format import SPEECH
from agent.audio.wav_writer import wav_header
from agent.server.tts import tone

RATE = 22050
TEXT = "one two three four five"


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    server = Pulse(tmp_path / "pulse", RATE)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    folder = tmp_path_factory.mktemp("tones")
    (folder / "script.txt").write_text("hello\n")
    recognition = ("--recognition", "script", "--script", str(folder / "script.txt"))
    with WireLoggedServer(folder / "server", "--speech", "tone", *recognition) as server:
        yield server


def test_say_plays_exactly(pulse: Pulse, tones: WireLoggedServer, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        # Large buffers, because a busy machine is late.
        "speaker: {device: default, buffer_seconds: 2.0, prebuffer_seconds: 2.0}\n"
        "control: {socket: none}\nserver: {start: false}\n"
        f"synthesis: {{services: [neuphonic], neuphonic: {{url: '{tones.ws}/speak/en', api_key: {{env: KEY}}, "
        f"sampling_rate: {RATE}}}}}\n"
    )
    pulse.record()
    process = Process("say", "--service", "neuphonic", "--config", str(config), TEXT, cwd=tmp_path,
                      env={**os.environ, **pulse.env, "KEY": "secret"})  # fmt: skip
    try:
        assert process.end() == 0, process.errors
    finally:
        process.kill()
    sound = tone.pcm(TEXT, RATE)
    assert sound.strip(b"\0") in pulse.heard(until=sound.strip(b"\0"))
    assert process.errors == "", "no messages of the libraries"


def parts(pulse: Pulse, function: str, **arguments: Any) -> subprocess.Popen[str]:
    tests = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "support.fault_parts", function, json.dumps(arguments)],
        env={**os.environ, **pulse.env, "PYTHONPATH": f"{tests.parent}:{tests}"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def read(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line == f"{word}\n", line + process.stderr.read()


def test_both_directions_survive_a_restart_of_the_server(pulse: Pulse, tmp_path: Path) -> None:
    speech = random.Random(1).randbytes(SPEECH.bytes_of(0.5)).replace(b"\0", b"\1")
    wav = tmp_path / "speech.wav"
    wav.write_bytes(wav_header(SPEECH, len(speech)) + speech)
    process = parts(pulse, "survive", rate=RATE, until=speech.hex())
    try:
        read(process, "at work")
        pulse.kill()
        read(process, "lost")
        pulse.start()
        pulse.record()
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        read(process, "back")
        for _ in range(20):  # repeated, because a busy machine may lose some of it
            pulse.say(wav)
            if process.poll() is not None:
                break
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(10)
    answer = json.loads(out)
    assert answer["said"], f"the speech after the restart was not received: {answer}"
    assert answer["back"] < 10.0
    assert not [line for line in errors.splitlines() if "card underruns" not in line], "no messages of the libraries"
    after = array.array("h", bytes.fromhex(answer["sound after"])).tobytes()
    assert after in pulse.heard(until=after)


def test_frozen_server_ends_in_a_restart(pulse: Pulse, tones: WireLoggedServer, tmp_path: Path) -> None:
    """Closing a stream to a frozen server blocks for a minute inside its library, so only a restart helps."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"conversation: {{mode: captions}}\ntranscription: {{url: '{tones.ws}/'}}\ncontrol: {{socket: none}}\n"
        "server: {start: false}\nshutdown_seconds: 3\n"
    )
    since = len(tones.wire())
    process = Process("run", "--config", str(config), cwd=tmp_path, env={**os.environ, **pulse.env})
    try:
        tones.await_wire(since=since, direction="in", kind="binary")
        pulse.freeze()
        assert process.end() == 70
    finally:
        pulse.thaw()
        process.kill()
    assert "stuck: microphone" in process.errors and "stop_stream" in process.errors
    tones.await_wire(since=since, direction="in", event="End")  # eof was sent all the same

"""The main job, on real engines: a spoken question in, a spoken answer out, over every protocol."""

from __future__ import annotations

import json
import os
import re
import signal
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.machine import free_port

from agent.cli.demo import QUESTION

REPLY = "My name is Robert and I live in a small house by the river."
# What is spoken begins when all of it is there: a machine that is busy is no gap in it.
CONFIGURATION = f"""
speaker: {{prebuffer_seconds: 5}}
responder:
  rules:
    - {{pattern: time, reply: {REPLY!r}}}
  fallback: I did not understand the question at all.
"""
MOMENTS = ["end_of_speech", "final_transcript", "first_reply_text", "first_audio", "last_audio"]
SLOW = ("neuphonic", "playai", "vachana")  # each takes five seconds of CPU time
SERVICES = ["local", "fish", "wyoming", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
TIMEOUT_SECONDS = 240.0
"""Longer than the timeout of the command, so that the command reports the slow step."""


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def recognized(agent: Start, path: Path) -> list[str]:
    """Return the words that the local recognizer hears in a WAV file; on a free port, as the default may be taken."""
    port = free_port()
    config = path.with_name("recognized.yaml")
    config.write_text(f"server: {{port: {port}}}\ntranscription: {{url: 'ws://127.0.0.1:{port}/'}}\n")
    process = agent("transcribe", "--config", str(config), str(path))
    assert process.end(TIMEOUT_SECONDS) == 0, process.errors
    return words(process.output)


@pytest.mark.parametrize("service", SERVICES)
def test_demo_answers_and_prints_a_timeline(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, service: str
) -> None:
    config = write_config(CONFIGURATION)
    process = agent("demo", "--config", config, "--service", service, "--output", "reply.wav")
    assert process.end(TIMEOUT_SECONDS) == 0, process.errors
    output = process.output
    assert f"question    {QUESTION}" in output
    (transcript,) = re.findall(r"^ *transcript +(.+)$", output, re.MULTILINE)
    assert {"what", "time"} <= set(words(transcript)), output
    assert re.search(rf"reply +{re.escape(REPLY)}", output), output
    assert f"spoken by   {service}" in output and "reply.wav" in output
    seconds = [float(text) for text in re.findall(r"^ *[a-z ]+ +(\d+\.\d\d) s  ", output, re.MULTILINE)]
    assert len(seconds) == len(MOMENTS) and seconds == sorted(seconds), output
    heard = recognized(agent, tmp_path / "reply.wav")
    missing = [word for word in words(REPLY) if word not in heard]
    assert len(missing) <= 2, f"{heard} was heard instead of {REPLY!r}"


def test_demo_json_prints_one_object(agent: Start, write_config: Callable[[str], str], tmp_path: Path) -> None:
    process = agent("demo", "--json", "--config", write_config(CONFIGURATION), "--output", "reply.wav")
    assert process.end(TIMEOUT_SECONDS) == 0, process.errors
    turn = json.loads(process.output)
    assert turn["question"] == QUESTION and {"what", "time"} <= set(words(turn["transcript"]))
    assert turn["reply"] == REPLY and turn["service"] == "local" and turn["wav"] == "reply.wav"
    assert list(turn["timeline"]) == MOMENTS
    times = list(turn["timeline"].values())
    assert times[0] == 0.0 and times == sorted(times)
    with wave.open(str(tmp_path / "reply.wav"), "rb") as file:
        spoken_seconds = file.getnframes() / file.getframerate()
    # Each moment is the receipt of the event, which may be late on a busy machine.
    assert 0.25 * spoken_seconds < times[-1] - times[-2] < spoken_seconds + 10.0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_demo_with_its_exit_code(agent: Start, number: int, code: int) -> None:
    process = agent("demo", "--output", "reply.wav")
    process.stdout.await_text("partial:")
    process.signal(number)
    assert process.end(TIMEOUT_SECONDS) == code
    assert f"stopped by {signal.Signals(number).name}" in process.errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["starting the local speech server", "recording the question"])
def test_a_signal_before_the_question_leaves_no_files(
    agent: Start, tmp_path: Path, moment: str, number: int, code: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    endless = f"{QUESTION} " * 300  # so long that the recording is not done at the signal
    process = agent("demo", "--question", endless, "--output", "reply.wav", env={"TMPDIR": str(temporary)})
    process.stdout.await_text(moment)
    process.signal(number)
    assert process.end(TIMEOUT_SECONDS) == code, process.errors
    assert f"stopped by {signal.Signals(number).name}" in process.errors
    assert "Traceback" not in process.errors and "asking the question" not in process.output
    assert not list(temporary.iterdir()) and not (tmp_path / "reply.wav").exists()


def test_sigkill_leaves_no_question_file(agent: Start, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = agent("demo", "--output", "reply.wav", env={"TMPDIR": str(temporary)})
    process.stdout.await_text("partial:")
    process.signal(signal.SIGKILL)
    process.end(TIMEOUT_SECONDS)
    assert not list(temporary.iterdir()) and not (tmp_path / "reply.wav").exists()


def test_a_reader_that_leaves_ends_the_demo_without_a_message(agent: Start) -> None:
    """As with ``voice-agent demo | head -4``: the rest of the turn is not needed."""
    read_end, write_end = os.pipe()
    process = agent("demo", "--output", "reply.wav", stdout=write_end)
    os.close(write_end)
    with open(read_end, encoding="utf-8") as output:
        assert any("partial:" in line for line in output)
    assert process.end(TIMEOUT_SECONDS) == 0 and "Error" not in process.errors, process.errors


def test_an_ascii_terminal_gets_an_ascii_timeline(agent: Start, write_config: Callable[[str], str]) -> None:
    """The bars of the timeline are not in latin-1."""
    environment = {"PYTHONIOENCODING": "latin-1"}
    process = agent("demo", "--config", write_config(CONFIGURATION), "--output", "reply.wav", env=environment)
    assert process.end(TIMEOUT_SECONDS) == 0, process.errors
    assert re.search(r"last audio +\d+\.\d\d s  \?+", process.output), process.output


def test_demo_without_a_sound_card_writes_a_file(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    config = write_config("speaker: {device: a missing card}\n")
    process = agent("demo", "--config", config)
    assert process.end(TIMEOUT_SECONDS) == 0, process.errors
    assert "no sound card" in process.output and "demo-reply.wav" in process.output
    with wave.open(str(tmp_path / "demo-reply.wav"), "rb") as file:
        assert file.getnframes() > file.getframerate() // 2

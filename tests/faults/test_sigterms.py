"""SIGTERM at random moments of a conversation, for each service: every session gets its end mark, the exit code is 0.

``SIGTERMS`` sets the number of signals, ``SIGTERM_SEED`` the moments.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import Start, assert_end_mark, service_config, write_wav
from support.fault_rows import Record
from support.processes import Process, Supervision, WireLoggedServer

from agent.server.tts import tone

COUNT = int(os.environ.get("SIGTERMS", "5"))
SEED = int(os.environ.get("SIGTERM_SEED", "7"))
SERVICES = ("local", "playai", "neuphonic", "vachana", "fish")  # no two neighbors use the same protocol
CONVERSATION_SECONDS = 2.5
SHUTDOWN_SECONDS = 4.0
KNOWN_SECONDS = 2.0
"""Longest delay on a busy machine between the server's answer and the daemon's notice of it."""


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    """A server that recognizes one question after the other and speaks in real time."""
    folder = tmp_path_factory.mktemp("talking")
    script = folder / "script.txt"
    script.write_text("what time is it please\nand what day is it today\n")
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script), "--pace", "1")
    with WireLoggedServer(folder / "server", *arguments) as server:
        yield server


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "questions.wav"
    write_wav(path, (tone.pcm("one two", 16000) + bytes(16000)) * 4)
    return path


def is_abandoned_dial(lines: list[dict[str, Any]], signaled_at: float, own: tuple[str, str]) -> bool:
    """Return whether this connection was being dialed at the signal, so that it has no end mark.

    The daemon does not wait for such a dial.

    Args:
        own: The speech service and the transcription path of the running daemon; other connections were dialed by the
            daemon before it, long after its own signal.
    """
    if [line["kind"] for line in lines] != ["open", "close"] or lines[-1]["summary"] != "1006":
        return False
    service, path = own
    opened = lines[0]
    is_foreign = opened["summary"] != path if opened["service"] == "transcription" else opened["service"] != service
    return is_foreign or bool(opened["time"] >= signaled_at - KNOWN_SECONDS)


def end_in_the_middle(
    agent: Start,
    server: WireLoggedServer,
    config: str,
    supervision: Supervision,
    after_seconds: float,
    own: tuple[str, str],
) -> tuple[int, int, float]:
    """End a conversation ``after_seconds``; return the number of sessions and due end marks, and the seconds taken."""
    since = len(server.wire())
    process: Process = agent("run", "--config", config, env={"NOTIFY_SOCKET": supervision.path})
    supervision.await_line("READY=1", while_alive=process)
    with supervision.discard():
        threading.Event().wait(after_seconds)  # the random moment is the input of the test
        began, signaled_at = time.monotonic(), time.time()
        process.signal(signal.SIGTERM)
        code = process.end(SHUTDOWN_SECONDS + 15)  # a busy machine adds to it; the measurement is recorded
        took = time.monotonic() - began
    assert code == 0 and "Traceback" not in process.errors, process.errors
    sessions: dict[int, list[dict[str, Any]]] = {}
    for line in server.settled(since):
        if line["kind"] == "open":
            sessions[line["connection"]] = [line]
        elif line["connection"] in sessions and line["direction"] == "in":
            sessions[line["connection"]].append(line)
    marks = 0
    for lines in sessions.values():
        if is_abandoned_dial(lines, signaled_at, own):
            continue
        assert_end_mark(lines)
        marks += lines[0]["service"] in ("neuphonic", "fish", "transcription")
    return len(sessions), marks, took


@pytest.mark.timeout(7200)
def test_show_6_sigterm_at_random_moments_sends_every_end_mark(
    record_show: Record,
    agent: Start,
    talking: WireLoggedServer,
    questions: Path,
    write_config: Callable[[str], str],
    tmp_path: Path,
) -> None:
    dice = random.Random(SEED)
    sessions = marks = 0
    slowest = 0.0
    for number in range(COUNT):
        service, path = SERVICES[number % len(SERVICES)], f"/?{number}"
        config = write_config(
            f"microphone: {{device: 'file:{questions}'}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
            f"shutdown_seconds: {SHUTDOWN_SECONDS}\nconversation: {{silence_seconds: 0.3, vad: energy}}\n"
            f"transcription: {{url: '{talking.ws}{path}'}}\nserver: {{start: false}}\n"
            f"{service_config(talking, service)}"
        )
        folder = tmp_path / f"n{number}"
        folder.mkdir()
        supervision = Supervision(folder)
        try:
            moment = dice.uniform(0.0, CONVERSATION_SECONDS)
            own = ("neuphonic" if service == "local" else service, path)
            opened, due, took = end_in_the_middle(agent, talking, config, supervision, moment, own)
        except AssertionError as error:
            raise AssertionError(f"number {number}, {service}, after {moment:.3f} s: {error}") from error
        finally:
            supervision.close()
        sessions, marks, slowest = sessions + opened, marks + due, max(slowest, took)
    assert sessions >= COUNT
    ends = f"{COUNT} SIGTERMs: {COUNT} exits of 0"
    record_show(6, f"{ends}, {marks} of {marks} end marks in {sessions} sessions, at most {slowest:.1f} s")

"""SIGTERM at random moments of a conversation, for each service: every session gets its end mark, the exit code is 0.

``SIGTERMS`` sets the number of signals, ``SIGTERM_SEED`` the moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
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
SERVICES = ("local", "playai", "neuphonic", "vachana", "fish")  # no two neighbors speak the same protocol
CONVERSATION_SECONDS = 2.5
SHUTDOWN_SECONDS = 4.0
KNOWN_SECONDS = 2.0
"""How long after the server's answer a busy daemon may not know yet that its dial is done."""


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    """Hears one question after the other, and speaks in real time."""
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


def drain(notices: socket.socket) -> None:
    notices.settimeout(None)
    with contextlib.suppress(OSError):  # it was closed: the test has failed already
        while notices.recv(65536):
            pass


def is_abandoned_dial(lines: list[dict[str, Any]], ordered_at: float, own: tuple[str, str]) -> bool:
    """Whether this was a dial that was under way when the order came: it is not waited for, so a server that is slow
    to answer finds nobody there any more, who could have said a word. ``own``: the service and the path of what the
    daemon of now speaks to; what is neither was dialled by the one before, which has had its order long ago."""
    if [line["kind"] for line in lines] != ["open", "close"] or lines[-1]["summary"] != "1006":
        return False
    service, path = own
    opened = lines[0]
    stranger = opened["summary"] != path if opened["service"] == "transcription" else opened["service"] != service
    return stranger or bool(opened["time"] >= ordered_at - KNOWN_SECONDS)


def end_in_the_middle(
    agent: Start,
    server: WireLoggedServer,
    config: str,
    supervision: Supervision,
    after_seconds: float,
    own: tuple[str, str],
) -> tuple[int, int, float]:
    """One conversation, ended so long after its start; sessions, end marks that were due, seconds it took."""
    since = len(server.wire())
    process: Process = agent("run", "--config", config, env={"NOTIFY_SOCKET": supervision.path})
    supervision.await_line("READY=1", while_alive=process)
    # As the service manager does: who does not read keeps the daemon waiting at every change of its status.
    reader = threading.Thread(target=drain, args=(supervision._socket,))
    reader.start()
    threading.Event().wait(after_seconds)  # a random moment is what is wanted
    began, ordered_at = time.monotonic(), time.time()
    process.signal(signal.SIGTERM)
    code = process.end(SHUTDOWN_SECONDS + 15)  # how long it took is told; a busy machine takes its time
    took = time.monotonic() - began
    supervision._socket.shutdown(socket.SHUT_RDWR)
    reader.join()
    assert code == 0 and "Traceback" not in process.errors, process.errors
    sessions: dict[int, list[dict[str, Any]]] = {}
    for line in server.settled(since):
        if line["kind"] == "open":
            sessions[line["connection"]] = [line]
        elif line["connection"] in sessions and line["direction"] == "in":
            sessions[line["connection"]].append(line)
    marks = 0
    for lines in sessions.values():
        if is_abandoned_dial(lines, ordered_at, own):
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
        service, path = SERVICES[number % len(SERVICES)], f"/{number}"
        config = write_config(
            f"microphone: {{device: 'file:{questions}'}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
            f"shutdown_seconds: {SHUTDOWN_SECONDS}\nconversation: {{silence_seconds: 0.3}}\n"
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

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fifo import Fifo
from support.gathered import Gathered

from agent.frontends.panel.command_light import CommandLight
from agent.pipeline.status import Status
from agent.system.threads import Deadline

SECONDS = 60.0
IDLE, LISTENING, THINKING, SPEAKING = (Status("", state) for state in ("idle", "listening", "thinking", "speaking"))


def shell(text: str) -> tuple[str, ...]:
    """Return a command; the state is $0."""
    return ("sh", "-c", text)


@contextmanager
def running(
    command: tuple[str, ...], timeout_seconds: float = SECONDS, environ: dict[str, str] | None = None
) -> Iterator[CommandLight]:
    light = CommandLight(command, {**os.environ, **(environ or {})}, Gathered(), timeout_seconds=timeout_seconds)
    light.open()
    light.start()
    try:
        yield light
    finally:
        light.stop()
        assert light.join(Deadline(SECONDS))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_the_command_gets_each_state_and_off_at_the_end(fifo: Fifo, caplog: pytest.LogCaptureFixture) -> None:
    with running(shell(f"echo $0 >>{fifo.path}")) as light:
        for status in (IDLE, LISTENING, SPEAKING):
            light.notify(status)
            light.notify(status)
            assert fifo.line() == status.visible_state
    assert fifo.line() == "off"
    assert warnings(caplog) == []


def test_states_that_pass_while_the_command_runs_are_left_out(fifo: Fifo, tmp_path: Path) -> None:
    gate = Fifo(tmp_path / "gate")
    command = f"echo $0 >>{fifo.path}; if [ $0 = idle ]; then read line <{gate.path}; fi"
    with running(shell(command)) as light:
        light.notify(IDLE)
        assert fifo.line() == "idle"
        for status in (LISTENING, THINKING, SPEAKING):
            light.notify(status)
        os.write(os.open(gate.path, os.O_WRONLY), b"go\n")
        assert fifo.line() == "speaking"
    assert fifo.line() == "off"
    gate.close()


def test_a_command_that_hangs_is_killed_with_its_children(fifo: Fifo, caplog: pytest.LogCaptureFixture) -> None:
    hang = f"if [ $0 = listening ]; then sleep 600 & echo $! >>{fifo.path}; wait; fi; echo $0 >>{fifo.path}"
    with running(shell(hang), timeout_seconds=0.3) as light:
        light.notify(LISTENING)
        child = int(fifo.line())
        light.notify(SPEAKING)
        assert fifo.line() == "speaking"
        await_end(child)
    assert [text for text in warnings(caplog) if "did not end within 0.3 s" in text]


def await_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], SECONDS)[0]
    os.close(descriptor)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/program",), "cannot be started"),
        (shell("exit 3"), "exit code 3"),
        (shell(f"kill -{int(signal.SIGTERM)} $$"), "signal 15"),
    ],
)
def test_a_failure_is_logged_once(command: tuple[str, ...], words: str, caplog: pytest.LogCaptureFixture) -> None:
    with running(command) as light:
        for status in (IDLE, LISTENING, SPEAKING):
            light.notify(status)
    [text] = warnings(caplog)
    assert words in text


def test_the_command_has_no_secret_of_the_daemon(fifo: Fifo) -> None:
    environ = {"VOICE_AGENT_WEB__TOKEN": "hush-hush", "CREDENTIALS_DIRECTORY": "hush-hush"}
    with running(shell(f"env | grep -c hush-hush >>{fifo.path}; true"), environ=environ) as light:
        light.notify(IDLE)
        assert fifo.line() == "0"


def test_abort_kills_the_running_command(fifo: Fifo) -> None:
    light = CommandLight(shell(f"echo $$ >>{fifo.path}; sleep 600"), os.environ, Gathered(), timeout_seconds=SECONDS)
    light.open()
    light.start()
    light.notify(IDLE)
    pid = int(fifo.line())
    light.abort()
    assert light.join(Deadline(SECONDS))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_descriptor_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with running(shell("true")) as light:
        light.notify(LISTENING)
    assert len(os.listdir("/proc/self/fd")) == before

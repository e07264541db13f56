"""Hooks with real processes: their input, one at a time, timeouts, failures and the shutdown."""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fifo import Fifo

from agent.frontends.frontend import Notification
from agent.frontends.hooks.hooks import MAX_EVENTS, Hooks
from agent.frontends.hooks.settings import HookSettings
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    ButtonPressed,
    DeviceBack,
    DeviceLost,
    Event,
    Heard,
    Partial,
    Reply,
    TextPiece,
    TimersChanged,
    Woken,
)
from agent.pipeline.status import Status
from agent.pipeline.timers import Timer, TimerChange
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

SECONDS = 20.0
ENVIRON = {"PATH": os.environ["PATH"], "CREDENTIALS_DIRECTORY": "/secret", "VOICE_AGENT_EVENT_OLD": "1"}
COPY = ("sh", "-c", 'cat >"$0.$$"; env >"$0.env"; mv "$0.$$" "$0"')
"""Copies stdin and the environment to files."""


class Running:
    """A started hooks worker."""

    def __init__(self, timeout_seconds: float = SECONDS, **settings: Any) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        parsed = HookSettings(timeout_seconds=timeout_seconds, **settings)
        self.hooks = Hooks(parsed, ENVIRON, self.events.put, terminate_seconds=0.2)

    def __enter__(self) -> Hooks:
        self.hooks.open()
        self.hooks.start()
        return self.hooks

    def __exit__(self, *exception: object) -> None:
        self.hooks.abort()
        assert self.hooks.join(Deadline(SECONDS))
        assert self.events.empty()  # it did not crash


def run_all(notifications: list[Notification], **settings: Any) -> None:
    """Run the hooks for all notifications to their end."""
    with Running(**settings) as hooks:
        for notification in notifications:
            hooks.notify(notification)
        hooks.stop()
        assert hooks.join(Deadline(SECONDS))


def append(path: Path) -> tuple[str, ...]:
    return ("sh", "-c", f"cat >>{path}")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def has_ended(pid: int) -> bool:
    """Whether a process ends; the kernel kills asynchronously."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], SECONDS)[0])
    finally:
        os.close(pidfd)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


TEA = Timer(3, "tea", seconds=60.0)
EVENTS: list[tuple[str, list[Notification], dict[str, object]]] = [
    ("wake", [Woken("hey jarvis")], {"event": "wake", "word": "hey jarvis"}),
    ("heard", [Partial("what"), Heard(""), Heard("what time")], {"event": "heard", "words": 2}),
    ("spoken", [Record(Utterance("a", "x", source="say"), "played", seconds=1.5)], {"state": "played", "seconds": 1.5}),
    ("failed", [Record(Utterance("a", "x"), "failed", "no network")], {"state": "failed", "reason": "no network"}),
    ("failed", [Record(Utterance("a", "x"), "expired"), Record(Utterance("b", ""), "cancelled")], {"state": "expired"}),
    ("failed", [Record(Utterance("a", "x"), "interrupted")], {"state": "interrupted"}),
    ("state", [Status("listening", "idle"), Status("2 wait", "idle", queue=2)], {"event": "state", "state": "idle"}),
    ("device", [DeviceLost("speaker", "unplugged")], {"device": "speaker", "state": "lost", "reason": "unplugged"}),
    ("button", [ButtonPressed("short")], {"press": "short"}),
    ("device", [DeviceBack("microphone", 2.0)], {"device": "microphone", "state": "ready"}),
    ("timer", [TimersChanged((), ((TEA, TimerChange.MISSED),))], {"event": "timer", "number": 3, "state": "missed"}),
]


def test_text_of_an_utterance_that_ended_is_no_part_of_the_next_one_with_its_id(tmp_path: Path) -> None:
    utterance = Utterance("a", None, source="control")
    notifications: list[Notification] = [
        TextPiece("a", "One."),
        Record(utterance, "failed", "no network"),
        TextPiece("a", "Two."),
        Record(utterance, "played"),
    ]
    run_all(notifications, spoken=append(tmp_path / "out"), transcripts=True)
    assert [event["text"] for event in lines(tmp_path / "out")] == ["Two."]


@pytest.mark.parametrize(("name", "notifications", "fields"), EVENTS)
def test_a_command_gets_its_event_once(
    tmp_path: Path, name: str, notifications: list[Notification], fields: dict[str, object]
) -> None:
    run_all(notifications, **{name: append(tmp_path / "out")})
    (event,) = lines(tmp_path / "out")
    assert event["hook"] == name
    assert fields.items() <= event.items()
    assert "text" not in event


def test_variables_describe_the_event_without_texts_and_secrets(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_all([Heard("open the gate")], heard=(*COPY, str(out)), transcripts=True)
    variables = dict(line.partition("=")[::2] for line in (tmp_path / "out.env").read_text().splitlines())
    assert variables["VOICE_AGENT_EVENT"] == "heard"
    assert variables["VOICE_AGENT_EVENT_WORDS"] == "3"
    assert "gate" not in (tmp_path / "out.env").read_text()
    assert {"CREDENTIALS_DIRECTORY", "VOICE_AGENT_EVENT_OLD"}.isdisjoint(variables)
    assert lines(out)[0]["text"] == "open the gate"


TEXTS: list[tuple[list[Notification], str]] = [
    ([Record(Utterance("a", "Train 5"), "played")], "Train 5"),
    ([Reply(3, "It is"), Reply(3, "noon."), Record(Utterance("r", None, turn=3), "played")], "It is noon."),
    ([TextPiece("s", "Hel"), TextPiece("s", "lo"), Record(Utterance("s", None), "played")], "Hello"),
]


@pytest.mark.parametrize(("notifications", "text"), TEXTS)
def test_the_text_of_an_utterance_is_on_stdin_only_if_allowed(
    tmp_path: Path, notifications: list[Notification], text: str
) -> None:
    run_all(notifications, spoken=append(tmp_path / "with"), transcripts=True)
    run_all(notifications, spoken=append(tmp_path / "without"))
    assert lines(tmp_path / "with")[0]["text"] == text
    assert "text" not in lines(tmp_path / "without")[0]


def test_a_command_runs_without_a_shell(tmp_path: Path) -> None:
    run_all([Heard("x")], heard=("touch", str(tmp_path / "a;b $HOME")))
    assert (tmp_path / "a;b $HOME").exists()


def test_one_hook_runs_one_process_at_a_time(tmp_path: Path) -> None:
    script = f'cd {tmp_path}; mkdir running || echo twice >>wrong; echo "$VOICE_AGENT_EVENT_WORDS" >>out; rmdir running'
    run_all([Heard("x " * words) for words in range(1, 6)], heard=("sh", "-c", script))
    assert not (tmp_path / "wrong").exists()
    assert (tmp_path / "out").read_text().split() == ["1", "2", "3", "4", "5"]


def test_a_hook_that_hangs_delays_no_other_hook(fifo: Fifo) -> None:
    with Running(heard=("sleep", "1000"), state=("sh", "-c", f"echo ran >{fifo.path}")) as hooks:
        hooks.notify(Heard("x"))
        hooks.notify(Status("listening", "idle"))
        assert fifo.line() == "ran"


def test_a_slow_hook_loses_its_oldest_events(fifo: Fifo, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f'echo "$VOICE_AGENT_EVENT_WORDS" >{fifo.path}; read line <{gate}'
    with Running(heard=("sh", "-c", script)) as hooks:
        hooks.notify(Heard("first"))
        assert fifo.line() == "1"
        for words in range(2, 3 * MAX_EVENTS):
            hooks.notify(Heard("x " * words))
        writer = os.open(gate, os.O_RDWR)
        heard = []
        for _ in range(MAX_EVENTS):
            os.write(writer, b"\n")
            heard.append(int(fifo.line()))
        os.close(writer)
    assert heard == list(range(3 * MAX_EVENTS))[-MAX_EVENTS:]
    assert len([line for line in warnings(caplog) if "events dropped" in line]) == 1


def test_a_command_that_hangs_is_killed_with_its_children(fifo: Fifo, caplog: pytest.LogCaptureFixture) -> None:
    script = f'trap "" TERM; sleep 1000 & echo $! >{fifo.path}; wait; wait'
    with Running(
        timeout_seconds=0.3, heard=("sh", "-c", script), device=("sh", "-c", f"echo $$ >{fifo.path}")
    ) as hooks:
        hooks.notify(Heard("x"))
        child = int(fifo.line())
        hooks.notify(Heard("x"))  # starts after the first one has ended
        assert int(fifo.line()) != child
        assert has_ended(child)
    assert len([line for line in warnings(caplog) if "did not end within 0.3 s" in line]) == 1


def test_processes_that_a_command_leaves_end_with_it(fifo: Fifo) -> None:
    with Running(heard=("sh", "-c", f"sleep 1000 & echo $! >{fifo.path}")) as hooks:
        hooks.notify(Heard("x"))
        child = int(fifo.line())
        hooks.stop()
        assert hooks.join(Deadline(SECONDS))
        assert has_ended(child)


def test_the_shutdown_kills_a_running_command(fifo: Fifo) -> None:
    with Running(heard=("sh", "-c", f"echo $$ >{fifo.path}; exec sleep 1000")) as hooks:
        hooks.notify(Heard("x"))
        pid = int(fifo.line())
        hooks.stop()
        assert not hooks.join(Deadline(0.01))
        hooks.abort()
        assert hooks.join(Deadline(SECONDS))
        assert has_ended(pid)


FAILURES = [
    (("/nonexistent/program",), "cannot be started"),
    (("/etc/passwd",), "cannot be started"),
    (("sh", "-c", "echo no lamp >&2; exit 3"), "exit code 3, no lamp"),
    (("sh", "-c", "kill -9 $$"), "signal 9"),
    (("sh", "-c", "exec 2>&-; exit 4"), "exit code 4"),
]


@pytest.mark.parametrize(("command", "words"), FAILURES)
def test_a_failure_is_logged_once(command: tuple[str, ...], words: str, caplog: pytest.LogCaptureFixture) -> None:
    run_all([Heard("x")] * 4, heard=command)
    (line,) = warnings(caplog)
    assert words in line


def test_a_failure_is_logged_again_after_a_success(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = f"test $VOICE_AGENT_EVENT_WORDS = 2 || exit 1; touch {tmp_path}/ran"
    run_all([Heard("x"), Heard("x y"), Heard("x")], heard=("sh", "-c", script))
    assert len(warnings(caplog)) == 2


def test_output_without_end_is_read_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    run_all([Heard("x")], heard=("sh", "-c", "yes | head -c 1000000 >&2; exit 5"))
    (line,) = warnings(caplog)
    assert "exit code 5" in line and len(line) < 400


def test_a_command_that_does_not_read_gets_a_long_text(tmp_path: Path) -> None:
    run_all([Heard("word " * 100_000)], heard=("touch", str(tmp_path / "ran")), transcripts=True)
    assert (tmp_path / "ran").exists()


def test_no_descriptor_is_left(caplog: pytest.LogCaptureFixture) -> None:
    run_all([Heard("x")], heard=("true",))  # imports and caches
    before = open_descriptors()
    run_all([Heard("x")] * 10, heard=("true",))
    run_all([Heard("x")] * 10, heard=("/nonexistent/program",))
    with Running(timeout_seconds=0.1, heard=("sleep", "1000")) as hooks:
        hooks.notify(Heard("x"))
    never_started = Hooks(HookSettings(heard=("true",)), ENVIRON, print)
    never_started.open()
    never_started.stop()
    assert open_descriptors() == before


def test_a_command_inherits_no_descriptor(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_all(
        [Heard("x")],
        heard=(sys.executable, "-c", f"import os; open({str(out)!r}, 'w').write(str(os.listdir('/proc/self/fd')))"),
    )
    assert len(json.loads(out.read_text().replace("'", '"'))) <= 5  # stdin, stdout, stderr, the directory, the file


def test_name_of_a_timer_is_a_text_and_no_variable(tmp_path: Path) -> None:
    changed = TimersChanged((), ((TEA, TimerChange.STARTED),))
    run_all([changed], timer=(*COPY, str(tmp_path / "out")), transcripts=True)
    assert lines(tmp_path / "out")[0]["name"] == "tea"
    environment = (tmp_path / "out.env").read_text()
    assert "VOICE_AGENT_EVENT_NUMBER=3" in environment and "tea" not in environment

"""The rows of the matrix of faults: how each is held is recorded with the test that proves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.fakepa import FakePortAudio
from support.processes import Process, Supervision, Wired

Figure = Callable[[int, str], None]
Drive = Callable[..., dict[str, Any]]
Start = Callable[..., Process]

TESTS = Path(__file__).parent.parent


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """``figure(row, "what was measured")``: what the table of the faults shows for that row of the matrix."""

    def record(row: int, text: str) -> None:
        record_property("row", row)
        record_property("figure", text)

    return record


@pytest.fixture
def shown(record_property: Callable[[str, object], None]) -> Figure:
    """The same for what is to be shown of the connections as a whole, by its number."""

    def record(number: int, text: str) -> None:
        record_property("show", number)
        record_property("figure", text)

    return record


@pytest.fixture
def fpa(tmp_path: Path) -> FakePortAudio:
    """A fake PortAudio of this test's own, for the processes that it starts."""
    folder = tmp_path / "portaudio"
    folder.mkdir()
    return FakePortAudio(folder)


@pytest.fixture
def drive(fpa: FakePortAudio) -> Drive:
    """Run a function of ``support.fault_parts`` in a separate process on the fake PortAudio; return its result."""

    def run(function: str, **arguments: Any) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "support.fault_parts", function, json.dumps(arguments)],
            env={**os.environ, **fpa.env, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return {**answer, "stderr": done.stderr}

    return run


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Start]:
    """Starts ``voice-agent ARGUMENTS`` with more environment; whatever is left of it is killed."""
    started: list[Process] = []

    def start(*arguments: str, env: dict[str, str] | None = None, under: Sequence[str] = ()) -> Process:
        process = Process(*arguments, env=env, cwd=tmp_path, under=under)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def supervision(tmp_path: Path) -> Iterator[Supervision]:
    watcher = Supervision(tmp_path)
    yield watcher
    watcher.close()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    """A server that speaks in tones and hears what its script says."""
    folder = tmp_path_factory.mktemp("tones")
    script = folder / "script.txt"
    script.write_text("what time is it please\n")
    with Wired(folder / "server", "--speech", "tone", "--recognition", "script", "--script", str(script)) as server:
        yield server

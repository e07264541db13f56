"""Fixtures of the fault tests; each test records the row of the fault matrix and what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import agent, scripted_server, supervision, write_config
from support.fakepa import FakePortAudio
from support.fault_rows import Drive, Record
from support.processes import WireLoggedServer

__all__ = ["agent", "supervision", "write_config"]

TESTS = Path(__file__).parent.parent


@pytest.fixture
def record_row(record_property: Callable[[str, object], None]) -> Record:
    """``figure(row, "what was measured")``: what the table of the faults shows for that row of the matrix."""

    def record(row: int, text: str) -> None:
        record_property("row", row)
        record_property("figure", text)

    return record


@pytest.fixture
def record_show(record_property: Callable[[str, object], None]) -> Record:
    """Like ``record_row``, for the numbered requirements that are not rows of the matrix."""

    def record(number: int, text: str) -> None:
        record_property("show", number)
        record_property("figure", text)

    return record


@pytest.fixture
def fpa(tmp_path: Path) -> FakePortAudio:
    """A fake PortAudio for the processes of one test."""
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


@pytest.fixture(scope="module")
def tone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    """A server that speaks tones and recognizes one line."""
    with scripted_server(tmp_path_factory.mktemp("tones"), "what time is it please\n") as server:
        yield server

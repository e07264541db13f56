"""Signals while the interpreter still imports the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SLOW = "import os\nos.write(2, b'here')\nos.read(0, 1)\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["run"], "logging"),
        (["say", "Hello."], "json"),
        (["say", "Hello."], "logging"),
        (["devices"], "argparse"),
        (["devices"], "logging"),
        (["--version"], "argparse"),
    ],
)
def test_a_signal_during_imports_exits_without_a_traceback(
    tmp_path: Path, command: list[str], module: str, number: int, code: int
) -> None:
    """Neither a traceback after Ctrl-C nor a death by SIGTERM."""
    (tmp_path / f"{module}.py").write_text(_SLOW)  # the import takes as long as the test wants
    with subprocess.Popen(
        [sys.executable, "-m", "agent", *command],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read(4) == b"here"
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr.read() == b""

"""A test of several steps: each prints its result and its time."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path


class Table:
    """The results of the steps. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self._began = time.monotonic()

    def step(self, what: str, do: Callable[[], str | None], *, needed: bool = False) -> None:
        """Run one step and print its result.

        Args:
            what: The description of the step.
            do: The step; returns an observation.
            needed: Raise ``Unusable`` if the step fails, since the later steps depend on it.
        """
        began = time.monotonic()
        try:
            observation, verdict = do() or "", "ok"
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            self.failed.append(what)
            where = traceback.extract_tb(error.__traceback__)[-1]
            observation, verdict = f"{error} ({where.filename.rpartition('/')[2]}:{where.lineno})", "FAILED"
        print(
            f"{verdict:6}  {time.monotonic() - began:6.1f} s  {what}{': ' if observation else ''}{observation}",
            flush=True,
        )
        if needed and self.failed:
            raise Unusable(what)

    def end(self) -> int:
        """Print the summary and return the exit code."""
        seconds = time.monotonic() - self._began
        summary = f"{len(self.failed)} failed: {'; '.join(self.failed)}" if self.failed else "all steps passed"
        print(f"{summary} ({seconds:.0f} s)", file=sys.stderr if self.failed else sys.stdout, flush=True)
        return 1 if self.failed else 0


class Unusable(Exception):
    """A step failed on which the later steps depend."""


def run_steps(name: str, run: Callable[[Path, Table], None]) -> int:
    """Call ``run`` with a temporary directory and a table; return the exit code. SIGTERM cleans up as well."""
    table = Table()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix=f"voice-agent-{name}-") as folder:
        try:
            run(Path(folder), table)
        except Unusable as reason:
            print(f"the later steps depend on this one: {reason}", file=sys.stderr)
    return table.end()

"""Steps that are shown with their times as they are done."""

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
    """``step`` does one thing and prints one line about it. What fails is told, and the steps after it are still done
    unless they are ``needed``: then nothing after it would mean anything."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self._began = time.monotonic()

    def step(self, what: str, do: Callable[[], str | None], *, needed: bool = False) -> None:
        began = time.monotonic()
        try:
            seen, verdict = do() or "", "ok"
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            self.failed.append(what)
            where = traceback.extract_tb(error.__traceback__)[-1]
            seen, verdict = f"{error} ({where.filename.rpartition('/')[2]}:{where.lineno})", "FAILED"
        print(f"{verdict:6}  {time.monotonic() - began:6.1f} s  {what}{': ' if seen else ''}{seen}", flush=True)
        if needed and self.failed:
            raise Unusable(what)

    def end(self) -> int:
        """Prints the last line; the exit code."""
        seconds = time.monotonic() - self._began
        said = f"{len(self.failed)} failed: {'; '.join(self.failed)}" if self.failed else "all of it holds"
        print(f"{said} ({seconds:.0f} s)", file=sys.stderr if self.failed else sys.stdout, flush=True)
        return 1 if self.failed else 0


class Unusable(Exception):
    """A step failed that all others stand on."""


def carry_out(name: str, run: Callable[[Path, Table], None]) -> int:
    """Does what ``run`` does with a table, in a folder that is gone afterwards; the exit code. Told to end, it still
    takes everything down."""
    table = Table()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix=f"voice-agent-{name}-") as folder:
        try:
            run(Path(folder), table)
        except Unusable as reason:
            print(f"nothing more can be tried after this: {reason}", file=sys.stderr)
    return table.end()

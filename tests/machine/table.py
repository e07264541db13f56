"""Steps that are shown with their times as they are done."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable


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

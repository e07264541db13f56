"""The stacks of all threads, for the moment before the watchdog strikes."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import TextIO

from agent.system.text import escape

_DEPTH_LIMIT = 100


def dump_stacks(stream: TextIO) -> None:
    """Writes where every thread stands, one paragraph each, innermost call last: its name, its numbers, and for each
    call file, line and function. Reads nothing from disk: that may be what is stuck."""
    names = {thread.ident: (thread.name, thread.native_id) for thread in threading.enumerate()}
    lines = []
    for ident, frame in sorted(sys._current_frames().items()):
        name, number = names.get(ident, ("unknown to Python", None))
        lines.append(f'thread "{escape(name, 60)}" ({number or ident}):')
        calls: list[str] = []
        here: FrameType | None = frame
        while here is not None and len(calls) < _DEPTH_LIMIT:
            code = here.f_code
            calls.append(f"  {escape(code.co_filename)}:{here.f_lineno} in {escape(code.co_qualname)}")
            here = here.f_back
        lines.extend(reversed(calls))
    stream.write("\n".join(lines) + "\n")
    stream.flush()

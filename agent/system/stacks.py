"""Dumps the stacks of all threads, for use shortly before the watchdog kills the process."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import TextIO

from agent.system.text import escape

_MAX_DEPTH = 100


def dump_stacks(stream: TextIO) -> None:
    """Write name, ID and stack of every thread: each call with file, line and function, innermost last.

    Unlike ``faulthandler``, this function prints the names of the threads. Unlike ``traceback``, it reads no source
    files, because the disk may be the cause of the stall.
    """
    names = {thread.ident: (thread.name, thread.native_id) for thread in threading.enumerate()}
    lines = []
    for ident, top in sorted(sys._current_frames().items()):
        name, native_id = names.get(ident, ("unknown to Python", None))
        lines.append(f'thread "{escape(name, 60)}" ({native_id or ident}):')
        calls: list[str] = []
        frame: FrameType | None = top
        while frame is not None and len(calls) < _MAX_DEPTH:
            code = frame.f_code
            calls.append(f"  {escape(code.co_filename)}:{frame.f_lineno} in {escape(code.co_qualname)}")
            frame = frame.f_back
        lines.extend(reversed(calls))
    stream.write("\n".join(lines) + "\n")
    stream.flush()

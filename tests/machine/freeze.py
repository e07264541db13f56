"""Stop one thread of another process, as a debugger does, while its other threads continue."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_TRIES = 20
_LOOK_SECONDS = 0.5


@contextlib.contextmanager
def frozen_writer(pid: int, is_responsive: Callable[[], bool]) -> Iterator[None]:
    """Stop the thread that writes most for the duration of the block, or until its process is killed.

    Args:
        pid: The process.
        is_responsive: Returns whether the other threads still work. If not, the thread holds a lock that they need, and
            it is stopped again at another moment.
    """
    for _ in range(_TRIES):
        thread = _writer(pid)
        try:
            _stop(thread)
        except OSError:
            continue  # the thread ended meanwhile
        if _works(is_responsive):
            break
        _release(thread)
    else:
        raise AssertionError("the thread holds a lock of the other threads at every stop")
    # A traced process stays a zombie until its tracer waits for it (man ptrace).
    watch = threading.Thread(target=_await_death, args=(thread,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        _release(thread)
        watch.join(_LOOK_SECONDS)


def _await_death(thread: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(thread, _WALL)


def _works(is_responsive: Callable[[], bool]) -> bool:
    try:
        return is_responsive()
    except (AssertionError, subprocess.TimeoutExpired):
        return False


def _writer(pid: int) -> int:
    before = _written(pid)
    time.sleep(_LOOK_SECONDS)
    after = _written(pid)
    return max(after, key=lambda thread: after[thread] - before.get(thread, 0))


def _written(pid: int) -> dict[int, int]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a short-lived thread ended meanwhile
            counts = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
            found[int(task.name)] = int(counts["wchar"])
    return found


def _stop(thread: int) -> None:
    _ptrace(_SEIZE, thread)
    _ptrace(_INTERRUPT, thread)
    os.waitpid(thread, _WALL)


def _release(thread: int) -> None:
    with contextlib.suppress(OSError):  # the process may have ended
        _ptrace(_DETACH, thread)


def _ptrace(request: int, thread: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace of {thread}: {os.strerror(ctypes.get_errno())}")

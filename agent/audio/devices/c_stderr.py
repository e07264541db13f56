"""Keeps the chatter of ALSA, JACK and PortAudio away from standard error, and gives it back as words for an error.

These libraries print dozens of lines while devices are probed, and a few when a running card is lost, whenever they
like and from whichever call. All of them print to C's ``stderr``, which is a variable in the GNU C library and may be
set (its manual says so: "Standard Streams"). So that is turned away, and descriptor 2 stays what it is: the program's
own log, what children print and what other threads print meanwhile go where they always went, and no pipe can fill up.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_ALSA = re.compile(r"^ALSA lib \S+:\d+:\(\w+\) (?P<words>.+)$")
_MOST_WORDS = 160
_MOST_READ = 1 << 16
_UNBUFFERED = 2


class StderrCapture:
    """What the C libraries print during one ``quiet()``.

    ``words`` is the first thing ALSA has said since the last ``listen()``, empty if nothing: what follows the first
    complaint are complaints about the complaint.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._from = 0

    def listen(self) -> None:
        """Forgets what has been said so far."""
        self._from = os.fstat(self._memory).st_size

    @property
    def words(self) -> str:
        for line in os.pread(self._memory, _MOST_READ, self._from).decode("utf-8", "replace").splitlines():
            said = _ALSA.match(line)
            if said:
                return "".join(c if c.isprintable() else " " for c in said["words"].strip())[:_MOST_WORDS]
        return ""


class _Streams:
    """Two C streams that live as long as the process: a library may be printing to one while it is turned away."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(library, "stderr")
        library.fdopen.restype, library.fdopen.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]
        self.memory = os.memfd_create("chatter")
        self._kept = library.fdopen(self.memory, b"a")
        self._nowhere = library.fdopen(os.open(os.devnull, os.O_WRONLY), b"a")
        library.setvbuf(ctypes.c_void_p(self._kept), None, _UNBUFFERED, ctypes.c_size_t(0))

    def keep(self) -> None:
        os.ftruncate(self.memory, 0)
        self._variable.value = self._kept

    def forget(self) -> None:
        self._variable.value = self._nowhere


@contextmanager
def capture_stderr() -> Iterator[StderrCapture]:
    """What the C libraries print inside the block is kept, and thrown away from the end of the block on, for good.

    Only one block at a time: the caller holds PortAudio's lock.
    """
    streams = _streams()
    streams.keep()
    try:
        yield StderrCapture(streams.memory)
    finally:
        streams.forget()
        os.ftruncate(streams.memory, 0)


@functools.cache
def _streams() -> _Streams:
    return _Streams()

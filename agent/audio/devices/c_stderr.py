"""Captures the messages that ALSA, JACK and PortAudio print to the C stream ``stderr``, for error messages.

PortAudio sets no error handler, so these libraries print dozens of lines while they probe devices (PortAudio issue
163, pull request 1162), and a few when a running card is lost. A handler of our own is unsafe, because ALSA may call it
after its function was freed (Debian bug 563192). But the GNU C library defines ``stderr`` as a variable that a program
may set (its manual, "Standard Streams"). This module redirects the variable and does not change descriptor 2, so the
log, child processes and other threads keep their output, and no pipe can fill up.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_ALSA = re.compile(r"^ALSA lib \S+:\d+:\(\w+\) (?P<message>.+)$")
_MAX_MESSAGE_LENGTH = 160
_MAX_READ_BYTES = 1 << 16
_IONBF = 2  # unbuffered, of setvbuf in stdio.h


class StderrCapture:
    """The messages of the C libraries during one ``capture_stderr``. Not thread-safe; used under ``PORTAUDIO_LOCK``."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._start = 0

    def reset(self) -> None:
        """Ignore all messages so far."""
        self._start = os.fstat(self._memory).st_size

    @property
    def messages(self) -> list[str]:
        """ALSA's messages since ``reset``. The later ones are consequences of the first."""
        lines = os.pread(self._memory, _MAX_READ_BYTES, self._start).decode("utf-8", "replace").splitlines()
        matches = [match for line in lines if (match := _ALSA.match(line))]
        return [_printable(match["message"].strip()) for match in matches]


def captured_messages() -> list[str]:
    """Return ALSA's messages of the current ``capture_stderr``; none outside of it."""
    return StderrCapture(_streams().memory).messages


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_MESSAGE_LENGTH]


class _Streams:
    """A C stream that records into memory and one that discards. Not thread-safe; used under ``PORTAUDIO_LOCK``.

    They are never closed: a library may still print to one stream while ``stderr`` is set to the other.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(library, "stderr")
        library.fdopen.restype, library.fdopen.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]
        self.memory = os.memfd_create("c-stderr")
        self._recording = library.fdopen(self.memory, b"a")
        self._null = library.fdopen(os.open(os.devnull, os.O_WRONLY), b"a")
        library.setvbuf(ctypes.c_void_p(self._recording), None, _IONBF, ctypes.c_size_t(0))

    def record(self) -> None:
        os.ftruncate(self.memory, 0)
        self._variable.value = self._recording

    def discard(self) -> None:
        self._variable.value = self._null


@contextmanager
def capture_stderr() -> Iterator[StderrCapture]:
    """Capture the messages of the C libraries inside the block, and discard all later ones.

    Not thread-safe: the caller holds ``PORTAUDIO_LOCK``.
    """
    streams = _streams()
    streams.record()
    try:
        yield StderrCapture(streams.memory)
    finally:
        streams.discard()
        os.ftruncate(streams.memory, 0)


@functools.cache
def _streams() -> _Streams:
    return _Streams()

"""Keeps the chatter of ALSA, JACK and PortAudio away from standard error, and gives it back as words for an error.

While PortAudio probes devices, the C libraries under it print dozens of lines to file descriptor 2. The descriptor is
turned to an unnamed file in memory for that time: a pipe could fill up and block the very call that is being watched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = re.compile(
    r"^(ALSA lib |Expression '|Cannot connect to server |jack server is not running|Jack|JACK|connect\(2\) call to |"
    r"attempt to connect to server failed|PaAlsa|PulseAudio:|a52|dmix|\s*$)"
)
_ALSA = re.compile(r"^ALSA lib \S+:\d+:\(\w+\) (?P<words>.+)$")
_MOST_WORDS = 160


class Chatter:
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
        for line in self._lines(self._from):
            said = _ALSA.match(line)
            if said:
                return "".join(c if c.isprintable() else " " for c in said["words"].strip())[:_MOST_WORDS]
        return ""

    def foreign(self) -> bytes:
        """What is nobody's chatter but the program's own, and must be printed."""
        return "".join(line for line in self._lines(0) if not _CHATTER.match(line)).encode("utf-8", "replace")

    def _lines(self, start: int) -> list[str]:
        size = os.fstat(self._memory).st_size - start
        return os.pread(self._memory, size, start).decode("utf-8", "replace").splitlines(keepends=True)


@contextmanager
def quiet() -> Iterator[Chatter]:
    """Standard error of the whole process is held back inside the block; what is not chatter is printed after it.

    Only one block at a time: the caller holds PortAudio's lock. A child process started by another thread inside the
    block would keep the file in memory as its standard error, so blocks are short: around opening, never around sound.
    """
    memory = os.memfd_create("stderr")
    chatter = Chatter(memory)
    try:
        try:
            real = os.dup(2)
        except OSError:  # a daemon may run with standard error closed: there is nothing to keep clean
            yield chatter
            return
        os.dup2(memory, 2)
        try:
            yield chatter
        finally:
            os.dup2(real, 2)
            _print(real, chatter.foreign())
            os.close(real)
    finally:
        os.close(memory)


def _print(descriptor: int, text: bytes) -> None:
    try:
        os.write(descriptor, text)
    except OSError:  # nobody reads standard error: its loss must not become an error of the sound card
        return

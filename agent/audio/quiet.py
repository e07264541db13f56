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
    """What the C libraries printed during one ``quiet()``. ``words`` is the last thing ALSA said, empty if nothing."""

    def __init__(self) -> None:
        self.words = ""

    def take(self, printed: bytes) -> bytes:
        """Keeps ALSA's words; gives back the lines that are nobody's chatter (the program's own), to be printed."""
        foreign = []
        for line in printed.decode("utf-8", "replace").splitlines(keepends=True):
            said = _ALSA.match(line)
            if said:
                self.words = "".join(c if c.isprintable() else " " for c in said["words"].strip())[:_MOST_WORDS]
            if not _CHATTER.match(line):
                foreign.append(line)
        return "".join(foreign).encode("utf-8", "replace")


@contextmanager
def quiet() -> Iterator[Chatter]:
    """Standard error of the whole process is held back inside the block; what is not chatter is printed after it.

    Only one block at a time: the caller holds PortAudio's lock. A child process started by another thread inside the
    block would keep the file in memory as its standard error, so blocks are short: around opening, never around sound.
    """
    chatter = Chatter()
    try:
        real = os.dup(2)
    except OSError:  # a daemon may run with standard error closed: there is nothing to keep clean
        yield chatter
        return
    memory = os.memfd_create("stderr")
    try:
        os.dup2(memory, 2)
        try:
            yield chatter
        finally:
            os.dup2(real, 2)
            own = chatter.take(os.pread(memory, os.fstat(memory).st_size, 0))
            _print(real, own)
    finally:
        os.close(memory)
        os.close(real)


def _print(descriptor: int, text: bytes) -> None:
    try:
        os.write(descriptor, text)
    except OSError:  # nobody reads standard error: its loss must not become an error of the sound card
        return

"""Shared by the benchmarks that listen to the virtual card: the times at which it plays, stops and records."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from support.vcard import VirtualCard

TIMEOUT_SECONDS = 60.0


class TimedCard(VirtualCard):
    """A virtual card that reports the times of its playback (``time.perf_counter``). Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / "card.log"
        os.mkfifo(path)
        # Opened for reading and writing: neither the open waits for a writer nor the FIFO ends with it.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.env["VCARD_LOG"] = str(path)

    def wait(self, kind: str, seconds: float = TIMEOUT_SECONDS) -> float:
        """Return the time of the next ``play``, ``stop`` or ``mic``; earlier lines of other kinds are skipped.

        Raises:
            SystemExit: The card reports nothing within the time.
        """
        until = time.monotonic() + seconds
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                name, _, at = line.decode().partition(" ")
                if name == kind:
                    return float(at)
                continue
            if not select.select([self._descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                raise SystemExit(f"the card reports no {kind} within {seconds:g} s")
            self._rest += os.read(self._descriptor, 65536)

    def close(self) -> None:
        os.close(self._descriptor)

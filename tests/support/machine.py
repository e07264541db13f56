"""What a test asks of the machine: free ports, listeners and the memory of processes."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

from support.timing import TIMEOUT_SECONDS, poll_until

_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port of loopback that no socket uses, and that no other call returns in any process of the tests.

    It lies below the ports that the kernel gives to clients. The reservation, an abstract socket (unix(7)), ends with
    the process.
    """
    for _ in range(1000):
        port = random.SystemRandom().randrange(20000, 32768)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0voice-agent-tests-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return port
    raise AssertionError("no port is free")


def await_listener(port: int, more: Callable[[], str] = str) -> None:
    """Wait until a connection to a port of loopback is accepted; ``more`` is added to the message of a failure."""

    def is_accepted() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True

    # The kernel reports no event when a port is opened.
    poll_until(is_accepted, reason=lambda: f"no server listens at {port} {more()}")


def resident_kib(pid: int | None = None) -> int:
    """The resident memory of a process, by default of this one."""
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024

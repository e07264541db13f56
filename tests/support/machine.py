"""What a test asks of the machine: free ports, listeners and the memory of processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from support.timing import TIMEOUT_SECONDS, poll_until


def free_port() -> int:
    """A port of loopback that no socket uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


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

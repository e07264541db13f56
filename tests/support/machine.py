"""What a test asks of the machine: free ports and the memory of processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def free_port() -> int:
    """A port of loopback that no socket uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def resident_kib(pid: int | None = None) -> int:
    """The resident memory of a process, by default of this one."""
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024

"""Checks whether a TCP port is in use, and finds the process that uses it."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

MAX_COMMAND_CHARACTERS = 80
"""Longest command line in a message."""

_LISTENING = "0A"  # net/tcp_states.h


class PortOwner(NamedTuple):
    """A process that listens on a port. Immutable.

    Attributes:
        pid: Process ID.
        parent: Process ID of the parent.
        command: Command line.
    """

    pid: int
    parent: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({escape(self.command, MAX_COMMAND_CHARACTERS)})"


def is_port_in_use(host: str, port: int) -> bool:
    """Return whether another socket listens on this address; ``False`` for port 0."""
    if port == 0:
        return False
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def find_port_owner(port: int) -> PortOwner | None:
    """Return a process that listens on the port; ``None`` if there is none, or if it belongs to another user."""
    inodes = _listening_inodes(port)
    for process in Path("/proc").iterdir() if inodes else ():
        if not process.name.isdigit():
            continue
        try:
            if any(os.readlink(entry.path) in inodes for entry in os.scandir(process / "fd")):
                # proc(5), stat: the name in parentheses may contain spaces; the parent is the second field after it.
                parent = int((process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
                return PortOwner(int(process.name), parent, read_command(int(process.name)))
        except OSError:
            continue  # the process ended, or it belongs to another user
    return None


def describe_port_owner(port: int) -> str:
    """Describe a process that listens on the port, for a message."""
    return str(find_port_owner(port) or "another program")


def read_command(pid: int) -> str:
    """Return the command line of a process; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _listening_inodes(port: int) -> set[str]:
    """Return the sockets that listen on the port, as link targets in ``/proc/PID/fd`` (proc(5), /proc/net/tcp)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def describe_bind_error(error: OSError, port: int, setting: str) -> str:
    """Return a clause that says why a server cannot listen on a port, and how to fix it.

    Args:
        error: The error of ``bind`` or ``listen``.
        port: The port.
        setting: The configuration key that sets the port.
    """
    if error.errno != errno.EADDRINUSE:
        return f"{error.strerror or error}: check {setting}"
    return f"port {port} is in use by {describe_port_owner(port)}: stop it or change {setting}"

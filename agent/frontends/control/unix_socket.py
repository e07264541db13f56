"""Listens at a Unix stream socket, and checks the credentials of its peers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from agent.errors import ConfigError
from agent.system.named_tuple import NamedTuple

DIRECTORY_MODE = 0o750
SOCKET_MODE = 0o660
BACKLOG = 16
PROBE_SECONDS = 1.0

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the same number on x86, ARM and RISC-V
_GROUPS_BYTES = 1024  # the maximum that socket.getsockopt() reads: 256 groups


class PeerCredentials(NamedTuple):
    """The process at the other end of a connection, and its user and groups. Immutable.

    The kernel records them at ``connect`` (unix(7), SO_PEERCRED).
    """

    pid: int
    uid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, connected: socket.socket) -> PeerCredentials:
        """Read the credentials of the peer. Raises ``OSError`` if the kernel does not provide them."""
        size = struct.calcsize("=iII")
        pid, uid, gid = struct.unpack("=iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        try:
            groups = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
        except OSError:
            groups = b""  # a kernel before 4.13, or more than 256 groups: only the primary group counts
        return cls(pid, uid, frozenset((gid, *struct.unpack(f"={len(groups) // 4}I", groups))))


class SocketInUse(ConfigError):
    """Another daemon listens at the path, or is starting in the same directory."""


class UnixListener:
    """A listening socket at ``path`` with mode 0660. Not thread-safe; owned by one thread at a time.

    ``open`` creates a missing directory with mode 0750. It replaces a socket file without a listener, but no other kind
    of file. ``close`` removes the socket file unless another process has replaced it; it is idempotent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._file: tuple[int, int] | None = None
        self._group = -1

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def open(self) -> None:
        """Create the socket.

        Raises:
            SocketInUse: Another daemon uses the path.
            ConfigError: The socket cannot be created.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _make_directory(self.path.parent)
            with _locked(self.path.parent):
                self._remove_stale()
                listener.bind(str(self.path))
                os.chmod(self.path, SOCKET_MODE)  # before listen(): no client can connect earlier
                listener.listen(BACKLOG)
            status = os.lstat(self.path)
        except OSError as error:
            listener.close()
            raise ConfigError(f"the socket {self.path} cannot be created: {error.strerror or error}") from error
        except ConfigError:
            listener.close()
            raise
        self._socket, self._file, self._group = listener, (status.st_dev, status.st_ino), status.st_gid

    def accept(self) -> socket.socket | None:
        """Return the next connection, in non-blocking mode; ``None`` if no connection is pending.

        Raises:
            OSError: The process has no free descriptor.
        """
        if self._socket is None:
            return None
        try:
            connected, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return None
        connected.setblocking(False)
        return connected

    def admits(self, peer: PeerCredentials) -> bool:
        """Return whether a peer is root, the user of the daemon or a member of the socket file's group.

        The mode 0660 allows the same users. This check also applies after a ``chmod 666`` of the socket file.
        """
        return peer.uid in (0, os.geteuid()) or self._group in peer.groups

    def close(self) -> None:
        listener, self._socket = self._socket, None
        if listener is None:
            return
        # Remove the path before the listener is closed: after that the next daemon may replace the path at any time.
        with contextlib.suppress(OSError):
            status = os.lstat(self.path)
            if (status.st_dev, status.st_ino) == self._file:
                os.unlink(self.path)
        listener.close()

    def _remove_stale(self) -> None:
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(status.st_mode):
            raise ConfigError(f"{self.path} exists and is not a socket: move it away or choose another path")
        owner = ""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(str(self.path))
                pid = PeerCredentials.of(probe).pid  # the process that called listen() (unix(7), SO_PEERCRED)
                owner = f" (process {pid})" if pid else ""  # 0 if it is in another PID namespace
            except ConnectionRefusedError:
                os.unlink(self.path)  # the daemon of this socket file ended without removing it
                return
            except (TimeoutError, BlockingIOError):
                pass  # another daemon listens, and its backlog is full
        raise SocketInUse(
            f"another daemon{owner} listens at {self.path} already: end one of the two (the service: sudo"
            " systemctl stop voice-agent), or give this one a control.socket and a server.port of its own"
        )


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(DIRECTORY_MODE)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a directory. Raises ``SocketInUse`` if it is locked.

    Without the lock, of two daemons that start at the same time, one could remove the new socket of the other, which
    does not listen yet.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise SocketInUse(f"another daemon is starting in {directory}: end one of the two") from error
    finally:
        os.close(descriptor)

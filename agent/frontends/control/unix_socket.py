"""A Unix stream socket at a path: who may sit there, who may connect, and nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConfigError

DIRECTORY_MODE = 0o750
SOCKET_MODE = 0o660
BACKLOG = 16
PROBE_SECONDS = 1.0

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the same number on x86, ARM and RISC-V
_GROUPS_BYTES = 1024  # what Python reads at most: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says it: at the moment of connecting, and not to be forged."""

    pid: int
    uid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, connected: socket.socket) -> Peer:
        """Raises ``OSError`` where the kernel does not say."""
        size = struct.calcsize("=iII")
        pid, uid, gid = struct.unpack("=iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        try:
            groups = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
        except OSError:
            groups = b""  # an old kernel, or more groups than that: the first one counts alone
        return cls(pid, uid, frozenset((gid, *struct.unpack(f"={len(groups) // 4}I", groups))))


class UnixListener:
    """A listening socket at ``path``, mode 0660, in a directory that is made with 0750 where it is not there.

    ``open`` raises ``ConfigError``; a socket that nobody listens at any more is replaced, anything else is left alone.
    ``admits(peer)`` is the rule: root, the user who listens, and the members of the socket file's group. That is just
    what mode 0660 says. It is asked again of every peer because the file's mode is only looked at on the path: a
    ``chmod`` by a well-meaning hand must not open the microphone's house to everybody. ``close`` removes the path if
    it is still ours; twice is safe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._file: tuple[int, int] | None = None
        self._group = -1

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def open(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _make_directory(self.path.parent)
            with _alone_in(self.path.parent):
                self._remove_stale()
                listener.bind(str(self.path))
                os.chmod(self.path, SOCKET_MODE)  # nobody can connect before it listens, so there is no moment between
                listener.listen(BACKLOG)
            found = os.lstat(self.path)
        except OSError as error:
            listener.close()
            raise ConfigError(f"the socket {self.path} cannot be made: {error.strerror or error}") from error
        except ConfigError:
            listener.close()
            raise
        self._socket, self._file, self._group = listener, (found.st_dev, found.st_ino), found.st_gid

    def accept(self) -> socket.socket | None:
        """The next connection, which does not block; ``None`` where none waits. Raises ``OSError`` where there is no
        room for one in this process."""
        if self._socket is None:
            return None
        try:
            connected, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return None
        connected.setblocking(False)
        return connected

    def admits(self, peer: Peer) -> bool:
        return peer.uid in (0, os.geteuid()) or self._group in peer.groups

    def close(self) -> None:
        listener, self._socket = self._socket, None
        if listener is None:
            return
        # The path goes first: once nobody listens, the next daemon may already have put its own there.
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._file:
                os.unlink(self.path)
        listener.close()

    def _remove_stale(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigError(f"{self.path} is there already and is no socket: move it away or name another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                os.unlink(self.path)  # its daemon died without taking it along
                return
            except (TimeoutError, BlockingIOError):
                pass  # it is there, and busy
        raise ConfigError(
            f"another daemon listens at {self.path} already: end one of the two (the service: sudo systemctl stop"
            " voice-agent), or give this one a control.socket and a server.port of its own"
        )


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(DIRECTORY_MODE)


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Two daemons that start at once do not take each other's new socket for a stale one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(f"another daemon is just starting in {directory}") from error
    finally:
        os.close(descriptor)

"""A socket at a path: who may sit there, who may connect, and nothing left behind."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.frontends.control.unix_socket import Peer, UnixListener


@pytest.fixture
def listening() -> Iterator[Callable[[Path], UnixListener]]:
    opened: list[UnixListener] = []

    def listen(path: Path) -> UnixListener:
        listener = UnixListener(path)
        listener.open()
        opened.append(listener)
        return listener

    yield listen
    for listener in opened:
        listener.close()


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_the_directory_is_0750_and_the_socket_0660_whatever_the_umask(
    tmp_path: Path, listening: Callable[[Path], UnixListener]
) -> None:
    for umask in (0o000, 0o077):
        path = tmp_path / f"{umask}" / "run" / "control.sock"
        before = os.umask(umask)
        try:
            listening(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
    tmp_path.chmod(0o711)
    listening(tmp_path / "control.sock")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


def test_the_path_is_removed_at_the_end_and_only_ones_own(
    tmp_path: Path, listening: Callable[[Path], UnixListener]
) -> None:
    path = tmp_path / "control.sock"
    listener = listening(path)
    listener.close()
    listener.close()
    assert not path.exists()
    listener = listening(path)
    path.rename(tmp_path / "old")
    successor = listening(path)
    listener.close()
    assert path.exists() and connects(path)
    successor.close()
    assert not path.exists()


def test_the_socket_of_a_daemon_that_died_is_replaced(
    tmp_path: Path, listening: Callable[[Path], UnixListener]
) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    listening(path)
    assert connects(path)


def test_the_socket_of_a_daemon_that_lives_is_left_alone(
    tmp_path: Path, listening: Callable[[Path], UnixListener]
) -> None:
    path = tmp_path / "control.sock"
    first = listening(path)
    with pytest.raises(ConfigError, match="another daemon listens"):
        listening(path)
    connected = first.accept()  # the probe of the second
    assert connected is not None
    connected.close()
    assert connects(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_never_removed(
    tmp_path: Path, kind: str, listening: Callable[[Path], UnixListener]
) -> None:
    path, elsewhere = tmp_path / "control.sock", tmp_path / "precious"
    elsewhere.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is no socket"):
        listening(path)
    assert os.path.lexists(path) and elsewhere.read_text() == "precious"


def test_a_place_that_cannot_be_had_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: File exists"):
        UnixListener(tmp_path / "file" / "run" / "control.sock").open()
    with pytest.raises(ConfigError, match="cannot be made"):
        UnixListener(tmp_path / ("x" * 200)).open()


def test_of_many_daemons_that_start_at_once_one_gets_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    listeners = [UnixListener(path) for _ in range(8)]
    together = threading.Barrier(len(listeners))
    refused: list[ConfigError] = []

    def start(listener: UnixListener) -> None:
        together.wait(60)
        try:
            listener.open()
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(listener,)) for listener in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    try:
        assert len(refused) == len(listeners) - 1
        assert connects(path)
    finally:
        for listener in listeners:
            listener.close()


def test_a_peer_is_who_the_kernel_says() -> None:
    left, right = socket.socketpair()
    with left, right:
        peer = Peer.of(left)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert peer.groups >= {os.getgid(), *os.getgroups()}


def test_root_oneself_and_the_sockets_group_may_connect_and_nobody_else(
    tmp_path: Path, listening: Callable[[Path], UnixListener]
) -> None:
    listener = listening(tmp_path / "control.sock")
    group = (tmp_path / "control.sock").stat().st_gid
    stranger = os.getuid() + 4711
    assert listener.admits(Peer(1, 0, frozenset()))
    assert listener.admits(Peer(1, os.getuid(), frozenset()))
    assert listener.admits(Peer(1, stranger, frozenset({stranger, group})))
    assert not listener.admits(Peer(1, stranger, frozenset({group + 4711})))
    assert not listener.admits(Peer(1, stranger, frozenset()))

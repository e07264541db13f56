from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.frontends.control.unix_socket import PeerCredentials, UnixListener


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


def test_open_sets_modes_for_every_umask(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
    for umask in (0o000, 0o077):
        path = tmp_path / f"{umask}" / "run" / "control.sock"
        before = os.umask(umask)
        try:
            listening(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_open_keeps_the_mode_of_a_directory(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
    tmp_path.chmod(0o711)
    listening(tmp_path / "control.sock")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


def test_close_removes_only_its_own_path(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
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


def test_open_replaces_a_stale_socket(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    listening(path)
    assert connects(path)


def test_open_refuses_a_socket_with_a_listener(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
    path = tmp_path / "control.sock"
    first = listening(path)
    with pytest.raises(ConfigError, match="another daemon.* listens"):
        listening(path)
    connected = first.accept()  # the probe of the second
    assert connected is not None
    connected.close()
    assert connects(path)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_open_never_removes_another_kind_of_file(
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
    with pytest.raises(ConfigError, match="is not a socket"):
        listening(path)
    assert os.path.lexists(path) and elsewhere.read_text() == "precious"


def test_open_reports_an_unusable_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be created: File exists"):
        UnixListener(tmp_path / "file" / "run" / "control.sock").open()
    with pytest.raises(ConfigError, match="cannot be created"):
        UnixListener(tmp_path / ("x" * 200)).open()


def test_one_of_many_concurrent_opens_succeeds(tmp_path: Path) -> None:
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


def test_peer_credentials_are_those_of_the_process() -> None:
    left, right = socket.socketpair()
    with left, right:
        peer = PeerCredentials.of(left)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert peer.groups >= {os.getgid(), *os.getgroups()}


def test_admits_root_the_own_user_and_the_group_only(tmp_path: Path, listening: Callable[[Path], UnixListener]) -> None:
    listener = listening(tmp_path / "control.sock")
    group = (tmp_path / "control.sock").stat().st_gid
    stranger = os.getuid() + 4711
    assert listener.admits(PeerCredentials(1, 0, frozenset()))
    assert listener.admits(PeerCredentials(1, os.getuid(), frozenset()))
    assert listener.admits(PeerCredentials(1, stranger, frozenset({stranger, group})))
    assert not listener.admits(PeerCredentials(1, stranger, frozenset({group + 4711})))
    assert not listener.admits(PeerCredentials(1, stranger, frozenset()))

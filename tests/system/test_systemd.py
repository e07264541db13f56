"""SystemdNotifier: the datagrams of sd_notify, also while systemd does not accept them."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.log import PrefixHandler, hide_secret
from agent.system.systemd import SystemdNotifier, child_environment


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The socket of systemd, and its path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock, str(tmp_path / "notify")


def received(sock: socket.socket) -> str:
    return sock.recv(4096).decode()


def send_all(notifier: SystemdNotifier) -> None:
    notifier.ready("listening")
    notifier.status("speaking")
    notifier.reloading()
    notifier.ping_watchdog()
    notifier.stopping(2.0)


def test_each_notification_is_one_datagram(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    before = time.monotonic_ns() // 1000
    send_all(SystemdNotifier({"NOTIFY_SOCKET": address}))
    assert received(sock) == "READY=1\nSTATUS=listening"
    assert received(sock) == "STATUS=speaking"
    reloading, moment = received(sock).split("\n")
    assert reloading == "RELOADING=1"
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert [received(sock) for _ in range(2)] == ["WATCHDOG=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=5000000"]


def test_abstract_socket_is_supported(tmp_path: Path) -> None:
    name = f"voice-agent-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(60)
        assert SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).ping_watchdog()
        assert received(sock) == "WATCHDOG=1"


@pytest.mark.parametrize(
    "address", [None, "", "@", "/", "nonsense", "vsock:2:1234", "/nowhere/notify", "/" + "x" * 300]
)
def test_missing_or_unsupported_socket_is_ignored(address: str | None) -> None:
    environ = {} if address is None else {"NOTIFY_SOCKET": address}
    send_all(SystemdNotifier(environ))
    assert not SystemdNotifier(environ).ping_watchdog()


def test_socket_that_disappears_is_ignored(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    assert notifier.ping_watchdog()
    sock.close()
    assert not notifier.ping_watchdog()
    os.unlink(address)
    send_all(notifier)


def fill(address: str) -> int:
    """Fill the receive buffer from other sockets; return the number of datagrams."""
    for count in range(100_000):
        # One socket each: the send buffer of a socket is limited as well.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            other.connect(address)
            try:
                other.send(b"STATUS=of another")
            except BlockingIOError:
                return count
    raise AssertionError("the receive buffer is unlimited")


def drain(sock: socket.socket, count: int) -> None:
    assert {sock.recv(4096) for _ in range(count)} == {b"STATUS=of another"}


def test_notifications_do_not_block_while_systemd_does_not_read(systemd: tuple[socket.socket, str]) -> None:
    _, address = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    fill(address)
    start = time.monotonic()
    assert not any(notifier.status(f"number {number}") for number in range(40))
    assert time.monotonic() - start < 20


def test_rejected_notifications_are_sent_later_with_only_the_latest_status(
    systemd: tuple[socket.socket, str], caplog: pytest.LogCaptureFixture
) -> None:
    sock, address = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    count = fill(address)
    for is_sent in (
        notifier.ready("starting"),
        notifier.status("listening"),
        notifier.status("thinking"),
        notifier.ping_watchdog(),
    ):
        assert not is_sent
    drain(sock, count)
    assert notifier.ping_watchdog()
    assert [received(sock) for _ in range(3)] == ["READY=1\nSTATUS=starting", "STATUS=thinking", "WATCHDOG=1"]
    assert notifier.status("speaking")
    assert received(sock) == "STATUS=speaking"
    assert [record.levelname for record in caplog.records if "systemd" in record.message] == ["WARNING"]


def test_rejected_notifications_keep_their_order(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    count = fill(address)
    notifier.ready("up")
    for number in range(3):
        notifier.reloading()
        notifier.ready(f"reloaded {number}")
    notifier.ping_watchdog()
    notifier.stopping(2.0)
    drain(sock, count)
    assert notifier.resend()
    messages = [re.sub(r"\n\w+_USEC=\d+$", "", received(sock)) for _ in range(5)]
    assert messages == ["READY=1\nSTATUS=up", "RELOADING=1", "READY=1\nSTATUS=reloaded 2", "WATCHDOG=1", "STOPPING=1"]
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(4096)


def test_status_is_escaped_and_bounded(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    notifier.status('no microphone: waiting for "x\nWATCHDOG=trigger\x1b[2J"')
    assert received(sock) == 'STATUS=no microphone: waiting for "x\\nWATCHDOG=trigger\\x1b[2J"'
    notifier.status("x" * 100000)
    assert len(received(sock)) < 300


def test_unchanged_status_is_sent_once(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    for text in ("listening", "listening", "thinking"):
        notifier.status(text)
    notifier.ping_watchdog()
    assert [received(sock) for _ in range(3)] == ["STATUS=listening", "STATUS=thinking", "WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "³"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_watchdog_seconds_apply_only_to_the_watched_process(environ: dict[str, str], seconds: float | None) -> None:
    assert SystemdNotifier(environ).watchdog_seconds == seconds


def test_child_environment_has_no_notify_socket_and_no_keys() -> None:
    environ = {
        "NOTIFY_SOCKET": "/x",
        "WATCHDOG_USEC": "1",
        "CREDENTIALS_DIRECTORY": "/c",
        "PATH": "/bin",
        "VOICE_AGENT_SYNTHESIS__FISH__API_KEY": "k",
    }
    assert child_environment(environ) == {"PATH": "/bin"}


def test_child_environment_has_no_variable_with_a_hidden_secret() -> None:
    handler = PrefixHandler(io.StringIO())
    logging.getLogger().addHandler(handler)
    hide_secret("s3cr3t-word")
    environ = {
        "MY_KEY": " s3cr3t-word\n",
        "VOICE_AGENT_WEB__TOKEN": "s3cr3t-word",
        "VOICE_AGENT_SYNTHESIS": "{fish: {api_key: s3cr3t-word}}",
        "VOICE_AGENT_CONTROL__SOCKET": "/run/x.sock",
        "HOME": "/home/s3cr3t-word",
    }
    left = {"VOICE_AGENT_CONTROL__SOCKET": "/run/x.sock", "HOME": "/home/s3cr3t-word"}
    assert child_environment(environ) == left

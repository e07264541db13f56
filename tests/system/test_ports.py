from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from support.machine import free_port

from agent.system.ports import PortOwner, describe_port_owner, find_port_owner, is_port_in_use, read_command


@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::1", "::")])
def test_port_is_in_use_while_a_socket_listens(host: str, other: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        assert is_port_in_use(host, port) and is_port_in_use(other, port)
        owner = find_port_owner(port)
        assert owner is not None and (owner.pid, owner.parent) == (os.getpid(), os.getppid())
    assert not is_port_in_use(host, port)
    assert find_port_owner(port) is None


def test_any_free_port_is_not_in_use() -> None:
    assert not is_port_in_use("127.0.0.1", 0)


def test_an_address_of_another_machine_is_not_in_use() -> None:
    assert not is_port_in_use("192.0.2.1", 8394)


def test_owner_is_the_process_that_listens() -> None:
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = find_port_owner(int(process.stdout.readline()))
        assert owner is not None
        assert (owner.pid, owner.parent) == (process.pid, os.getpid())
        assert "socket.create_server" in owner.command
        process.communicate("\n")
    assert read_command(process.pid) == ""


def test_owner_is_described_in_at_most_one_line_of_text() -> None:
    assert str(PortOwner(7, 1, "python -m http.server")) == "process 7 (python -m http.server)"
    assert len(str(PortOwner(7, 1, "x" * 5000))) < 130
    assert describe_port_owner(free_port()) == "another program"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert describe_port_owner(listener.getsockname()[1]).startswith(f"process {os.getpid()} (")

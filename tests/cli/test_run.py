"""A second daemon beside a running one."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.machine import await_listener, free_port
from support.processes import Process

SECONDS = 30.0


class Daemons:
    """Daemons of one machine: each has its own run directory unless it is shared. Not thread-safe."""

    def __init__(self, folder: Path, agent: Start) -> None:
        self._folder, self._agent = folder, agent

    def start(self, name: str, port: int, run: str | None = None, socket: str = "auto") -> Process:
        config = self._folder / f"{name}.yaml"
        config.write_text(
            "microphone: {device: none}\nspeaker: {device: none}\nconversation: {mode: announce}\n"
            f"server: {{port: {port}, speech: tone}}\ncontrol: {{socket: {socket}}}\n"
        )
        directory = self._folder / (run or name)
        directory.mkdir(exist_ok=True)
        env = {"STATE_DIRECTORY": str(directory), "RUNTIME_DIRECTORY": str(directory)}
        return self._agent("run", "--config", str(config), env=env)


@pytest.fixture
def daemons(tmp_path: Path, agent: Start) -> Daemons:
    return Daemons(tmp_path, agent)


@pytest.mark.parametrize("path", ["auto", "{folder}/configured.sock"])
def test_second_daemon_on_the_same_socket_exits_78_and_names_the_first(
    daemons: Daemons, tmp_path: Path, path: str
) -> None:
    path = path.format(folder=tmp_path)
    first = daemons.start("first", 0, run="shared", socket=path)
    first.stderr.await_text("ready: ")
    second = daemons.start("second", 0, run="shared", socket=path)
    assert second.end(SECONDS) == 78
    assert f"another daemon (process {first.popen.pid})" in second.errors and "Traceback" not in second.errors
    assert first.popen.poll() is None
    first.signal(signal.SIGTERM)
    assert first.end(SECONDS) == 0


def test_second_daemon_on_the_same_port_exits_78_and_names_the_first(daemons: Daemons, tmp_path: Path) -> None:
    port = free_port()
    first = daemons.start("first", port)
    first.stderr.await_text("ready: ")
    await_listener(port)
    second = daemons.start("second", port)
    assert second.end(SECONDS) == 78
    assert f"another daemon (process {first.popen.pid}) uses the port" in second.errors
    assert "restarting" not in second.errors and "Traceback" not in second.errors


def test_port_of_another_program_is_an_error_that_names_it(daemons: Daemons) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        daemon = daemons.start("only", listener.getsockname()[1])
        assert daemon.end(SECONDS) == 78
    assert "uses the port" in daemon.errors and "pytest" in daemon.errors


def test_daemon_waits_for_the_port_of_a_killed_one(daemons: Daemons) -> None:
    port = free_port()
    first = daemons.start("first", port)
    first.stderr.await_text("ready: ")
    await_listener(port)
    first.popen.kill()
    first.popen.wait(SECONDS)
    second = daemons.start("second", port)
    second.stderr.await_text("ready: ")
    await_listener(port)
    second.signal(signal.SIGTERM)
    assert second.end(SECONDS) == 0

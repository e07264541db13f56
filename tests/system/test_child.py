from __future__ import annotations

import os
import signal
import subprocess

import pytest

from agent.system.child import Child, describe_exit, private_environment

SECONDS = 20.0


def ended(child: Child) -> int:
    assert child.has_ended(SECONDS)
    code = child.reap()
    child.close()
    return code


@pytest.mark.parametrize("code", [0, 3])
def test_reap_returns_the_exit_code(code: int) -> None:
    assert ended(Child(["sh", "-c", f"exit {code}"], os.environ)) == code


def test_kill_group_ends_the_processes_that_the_program_started() -> None:
    child = Child(["sh", "-c", "sleep 600 & echo; wait"], os.environ, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(1)
    assert not child.has_ended(0.0)
    child.kill_group(signal.SIGKILL)
    assert child.has_ended(SECONDS)
    assert child.stdout.read() == b""  # the end of the file: no process of the group holds the pipe
    assert child.reap() == -signal.SIGKILL
    child.close()


def test_a_signal_for_a_group_that_has_ended_is_ignored() -> None:
    child = Child(["true"], os.environ)
    assert child.has_ended(SECONDS)
    child.kill_group(signal.SIGKILL)
    assert not child.is_reaped
    assert ended(child) == 0
    assert child.is_reaped


def test_signals_of_the_terminal_do_not_reach_the_program() -> None:
    child = Child(["sh", "-c", "echo $$; sleep 600"], os.environ, stdout=subprocess.PIPE)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert os.getsid(pid) == os.getpgid(pid) == pid
    child.kill_group(signal.SIGTERM)
    assert ended(child) == -signal.SIGTERM


def test_kill_ends_the_program_and_releases_every_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    child = Child(["sleep", "600"], os.environ, stdout=subprocess.PIPE)
    child.kill()
    assert child.is_reaped
    assert child.reap() == -signal.SIGKILL
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal 9")])
def test_describe_exit_tells_an_exit_code_from_a_signal(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_a_program_that_does_not_exist_raises() -> None:
    with pytest.raises(FileNotFoundError):
        Child(["/no/such/program"], os.environ)


def test_close_releases_every_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    pipe = subprocess.PIPE
    ended(Child(["true"], os.environ, stdin=pipe, stdout=pipe, stderr=pipe))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_private_environment_has_no_variable_of_the_daemon_and_of_systemd() -> None:
    own = {"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "1", "VOICE_AGENT_WEB__TOKEN": "x", "PATH": "/bin"}
    assert private_environment(own) == {"PATH": "/bin"}

"""The path to the socket of the running daemon: correct, and known without loading the configuration if possible."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.control import hush
from agent.cli.daemon_errors import DaemonUnreachable
from agent.cli.handover import connect, socket_paths

OLD = 1_000_000_000


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        yield


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default path of the socket; only its directory exists."""
    for name in [name for name in os.environ if name.startswith("VOICE_AGENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNTIME_DIRECTORY", os.fspath(tmp_path / "run"))
    return tmp_path / "run" / "control.sock"


def config(tmp_path: Path, text: str, encoding: str = "utf-8") -> str:
    """Write a configuration that is older than every socket."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode(encoding))
    path.chmod(0o600)
    os.utime(path, (OLD, OLD))
    return os.fspath(path)


def connected(path: str | None) -> Path:
    with connect(path) as client:
        return Path(client.path)


def test_socket_paths_follow_the_configuration() -> None:
    environ = {"RUNTIME_DIRECTORY": "/run/mine"}
    assert socket_paths("auto", environ) == ("/run/mine/control.sock", "/run/voice-agent/control.sock")
    assert socket_paths("none", environ) == ()
    assert socket_paths("/a/b", environ) == ("/a/b",)


@pytest.mark.parametrize(
    "text", ["", "# control: {socket: /tmp/other}\n", "speaker: {volume: 50}  # Lautstärke\n"]
)  # fmt: skip
def test_default_socket_is_used_if_the_file_does_not_name_one(tmp_path: Path, default: Path, text: str) -> None:
    with listening(default):
        assert connected(config(tmp_path, text)) == default


@pytest.mark.parametrize(
    "text",
    [
        "control: {socket: PATH}",
        "control:\n  socket: PATH\n",
        '"control": {socket: PATH}',
        "{control: {socket: PATH}}",
        '"\\x63ontrol": {socket: PATH}',
        "x-all: &all {socket: PATH}\ncontrol: *all\n",
        "? control\n: {socket: PATH}\n",
    ],
)
def test_socket_of_the_file_is_used_in_every_notation(tmp_path: Path, default: Path, text: str) -> None:
    other = tmp_path / "other.sock"
    with listening(default), listening(other):
        assert connected(config(tmp_path, text.replace("PATH", os.fspath(other)))) == other


def test_socket_of_the_environment_is_used(tmp_path: Path, default: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.sock"
    monkeypatch.setenv("VOICE_AGENT_CONTROL__SOCKET", os.fspath(other))
    with listening(default), listening(other):
        assert connected(config(tmp_path, "")) == other


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@pytest.mark.parametrize("text", ["speaker: {volume: loud}", "speaker: [ä\n", "control: {socket: 5}\nx: ä"])
def test_changed_invalid_file_is_a_warning(
    tmp_path: Path, default: Path, capsys: pytest.CaptureFixture[str], text: str, encoding: str
) -> None:
    path = config(tmp_path, text, encoding)
    with listening(default):
        os.utime(path)
        assert connected(path) == default
    assert "warning: the configuration is invalid" in capsys.readouterr().err


def test_file_that_the_daemon_has_read_is_not_loaded_again(
    tmp_path: Path, default: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(default):
        assert connected(config(tmp_path, "speaker: {volume: 50}")) == default
    assert capsys.readouterr().err == ""


def test_missing_daemon_is_reported_without_a_warning(
    tmp_path: Path, default: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DaemonUnreachable, match="there is no socket"):
        connect(config(tmp_path, "control: {socket: 5}"))
    assert capsys.readouterr().err == ""


def test_request_is_sent_before_the_package_is_imported() -> None:
    code = (
        "import sys; from agent.cli import main; from agent.cli.parsers import parse; parse(['hush']);"
        "import agent.cli.handover; print(*(name for name in sys.modules if name.startswith('agent.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    packages = {name.split(".")[1] for name in done.stdout.split()}
    assert packages <= {"cli", "client", "errors", "services", "system"}
    assert "agent.pipeline.events" not in done.stdout and "agent.settings" not in done.stdout


@pytest.mark.parametrize(
    "text", ["control: {sockt: /run/x}", "speaker:x\ncontrol: {socket: PATH}", "speaker: {volume: loud}"]
)
def test_mistake_in_the_file_is_named_where_no_daemon_is_found(
    tmp_path: Path, default: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(DaemonUnreachable):
        hush(config(tmp_path, text.replace("PATH", os.fspath(tmp_path / "other.sock"))))
    assert "warning: the configuration is invalid, " in capsys.readouterr().err

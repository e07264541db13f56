"""The functions of ``scripts/setup.sh``, with apt and dpkg replaced by scripts that record their calls."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = "flite ii\nlibportaudio2 ii\nlibmpg123-0t64 ii\nespeak-ng rc\n"


class Shell:
    """A copy of the scripts whose functions run with its own ``PATH``. Not thread-safe; owned by the test."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        (self.root / "scripts").mkdir(parents=True)
        (self.root / ".venv").mkdir()
        shutil.copy(ROOT / "scripts/setup.sh", self.root / "scripts")
        shutil.copy(ROOT / "setup.cfg", self.root)
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.calls = folder / "calls"
        self.calls.touch()
        self.environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(folder)}

    def program(self, name: str, body: str) -> None:
        """Add a program to ``PATH`` that records its arguments and runs ``body``."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{body}\n')
        path.chmod(0o755)

    def run(self, command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        script = f"set -euo pipefail; source {self.root}/scripts/setup.sh; exec 8>&2; {command}"
        done = subprocess.run(
            ["bash", "-c", script], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        return done


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def debian(shell: Shell) -> Shell:
    """A Debian on which ``INSTALLED`` packages are installed, and libasound2 has the name libasound2t64."""
    shell.program("dpkg-query", f"printf '{INSTALLED}'".replace("\n", "\\n"))
    shell.program("dpkg", "")
    shell.program("id", "echo 0")
    shell.program("apt-cache", 'for name; do case $name in *t64|lame) echo "Package: $name";; esac; done')
    shell.program(
        "apt-get",
        "echo 'Need to get 1,234 kB/5,678 kB of archives.'\n"
        "echo 'After this operation, 12.3 MB of additional disk space will be used.'",
    )
    return shell


def test_packages_with_either_name_count_as_installed(debian: Shell) -> None:
    done = debian.run("missing_packages flite libmpg123-0 espeak-ng lame")
    assert done.stdout == "espeak-ng lame"


def test_missing_packages_are_installed_by_the_name_that_exists_and_with_their_size(debian: Shell) -> None:
    done = debian.run("need_packages flite libasound2 lame")
    (line,) = [line for line in done.stderr.splitlines() if "installing" in line]
    assert line == "setup: installing system packages (1,234 kB to download, 12.3 MB on disk): libasound2t64 lame"
    calls = [call for call in debian.calls.read_text().splitlines() if re.match("apt-get .* install ", call)]
    assert all(call.endswith("install libasound2t64 lame") for call in calls)
    assert all("--no-install-recommends" in call for call in calls)
    asked, installed = calls
    assert "--print-uris" in asked and "--print-uris" not in installed, "the question for the size installs nothing"


def test_nothing_runs_if_no_package_is_missing(debian: Shell) -> None:
    done = debian.run("need_packages flite libmpg123-0")
    assert done.stderr == "" and "apt-get" not in debian.calls.read_text()


@pytest.mark.parametrize("has_sudo", [False, True])
def test_user_without_permission_gets_the_command_to_type(debian: Shell, has_sudo: bool) -> None:
    debian.program("id", "echo 1000")
    debian.program("sudo", "exit 1")
    if not has_sudo:
        (debian.programs / "sudo").unlink()
        # The machine may have sudo in /usr/bin.
        debian.environment["PATH"] = f"{debian.programs}:{_without_sudo(debian.root.parent / 'bin')}"
    done = debian.run("need_packages flite lame", code=1)
    expected = "sudo apt-get install" if has_sudo else "su - -c 'apt-get update"
    assert expected in done.stderr and "lame" in done.stderr
    assert "apt-get" not in debian.calls.read_text().replace("dpkg-query", "")


def _without_sudo(folder: Path) -> Path:
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if program.name != "sudo" and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return folder


@pytest.mark.parametrize("name", ["pulse/native", "pipewire-0"])
def test_alsa_plugins_are_needed_in_a_session_with_a_sound_server(shell: Shell, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    shell.environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert shell.run("session_packages").stdout.split() == ["libasound2-plugins"]


def test_alsa_plugins_are_needed_for_a_sound_server_on_the_network(shell: Shell) -> None:
    shell.environment["PULSE_SERVER"] = "tcp:192.0.2.1"
    assert shell.run("session_packages").stdout.split() == ["libasound2-plugins"]


@pytest.mark.skipif(any(Path("/run/user").glob("*/p*")), reason="this machine has a session")
def test_alsa_plugins_are_not_needed_without_a_session(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "pipewire-0").touch()  # not a socket
    shell.environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    assert shell.run("session_packages").stdout == ""


def test_requirements_are_those_of_the_package_and_its_extras(shell: Shell) -> None:
    (shell.root / ".venv/bin").mkdir()
    (shell.root / ".venv/bin/python").symlink_to(sys.executable)
    names = re.findall(r"^[\w-]+", shell.run("requirements systemd").stdout, re.MULTILINE)
    assert {"websocket-client", "msgpack", "systemd-python"} <= set(names) and "pytest" not in names
    lines = shell.run("requirements systemd test vad").stdout.splitlines()
    assert lines and all(re.match(r"[\w-]+", line) for line in lines), "comments are not requirements"
    assert any(line.startswith("pytest") for line in lines)


def test_environment_finds_the_clone_from_any_directory(shell: Shell, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "agent", shell.root / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(shell.root / ".venv")], check=True, timeout=60)
    shell.run("link_clone")
    program = "import agent, sys; print(agent.__file__); print(agent.__version__)"
    done = subprocess.run(
        [shell.root / ".venv/bin/python", "-P", "-c", program],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[:1] == [str(shell.root / "agent/__init__.py")], done.stderr


def test_interpreter_is_debians_only_if_it_is_the_one_in_usr_bin(debian: Shell, tmp_path: Path) -> None:
    other = tmp_path / "python3"
    other.write_text("")
    debian.run("is_debian_python /usr/bin/python3")
    debian.run(f"! is_debian_python {other}")


@pytest.fixture
def run_script(tmp_path: Path) -> Path:
    """``scripts/run`` with a finished setup and a Python that prints its arguments."""
    (tmp_path / "setup.sh").write_text(f"venv={tmp_path}\nset_up() {{ :; }}\nadd_parts() {{ echo add $*; }}\n")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text('#!/bin/sh\necho "python $*"\n')
    python.chmod(0o755)
    return Path(shutil.copy(ROOT / "scripts/run", tmp_path))


def output_on_a_terminal(*command: str | Path) -> list[str]:
    controller, terminal = os.openpty()
    subprocess.run(command, stdin=terminal, stdout=terminal, timeout=60, check=True)
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # EIO, when everything is read; a read may return a part
        while True:
            output += os.read(controller, 65536)
    os.close(controller)
    return output.decode().splitlines()


def test_run_without_arguments_ends_on_a_terminal_with_three_commands_to_try(run_script: Path) -> None:
    demo, empty, *lines = output_on_a_terminal(run_script)
    assert (demo, empty) == ("python -P -m agent demo", "")
    assert [line.split()[:2] for line in lines] == [[str(run_script), name] for name in ("say", "doctor", "run")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "demo"),
        (["demo", "--json"], "demo --json"),
        (["say", "hello"], "say --fallback say-speech.wav hello"),
        (["say", "--output", "a.wav", "hello"], "say --fallback say-speech.wav --output a.wav hello"),
        (["doctor"], "doctor"),
    ],
)
def test_run_passes_its_arguments_on(run_script: Path, arguments: list[str], expected: str) -> None:
    done = subprocess.run([run_script, *arguments], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"python -P -m agent {expected}\n"
    if arguments:
        assert output_on_a_terminal(run_script, *arguments) == [f"python -P -m agent {expected}"]


def test_run_installs_optional_parts_before_the_command(run_script: Path) -> None:
    options = ["--natural-voice", "--wake-word", "--spoken-requests", "--vosk"]
    command = [run_script, *options, "say", "--voice", "en", "hello"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        f"add {' '.join(options)}",
        "python -P -m agent say --fallback say-speech.wav --voice en hello",
    ]

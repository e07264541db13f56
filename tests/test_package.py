"""The Debian package: reproducible, complete and independent of its environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.settings.loader import load

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "package"


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)  # type: ignore[call-overload, no-any-return]


def build(folder: Path, umask: int = 0o022) -> Path:
    done = run(sys.executable, SCRIPT, "--output", folder, umask=umask)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def copy_sources(target: Path) -> Path:
    """Copy everything that the package is built from, without the repository."""
    for name in ("systemd", "packaging", "config", "docs", "examples", "agent", "scripts"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, target)
    untracked = run(
        "git", "ls-files", "-z", "--others", "agent", "config", "docs", "examples", "systemd", cwd=ROOT, check=True
    ).stdout
    for path in untracked.split("\0"):
        if path:
            (target / path).unlink(missing_ok=True)
    return target


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the package, unpacked."""
    folder = tmp_path_factory.mktemp("tree")
    run("dpkg-deb", "-x", package, folder, check=True)
    return folder


@pytest.fixture(scope="module")
def control(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metadata and the maintainer scripts of the package, unpacked."""
    folder = tmp_path_factory.mktemp("control")
    run("dpkg-deb", "-e", package, folder, check=True)
    return folder


def test_same_commit_gives_same_bytes(package: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again", umask=0o077).read_bytes() == package.read_bytes()


def test_copy_without_repository_gives_same_bytes(package: Path, tmp_path: Path) -> None:
    copy = copy_sources(tmp_path / "another place")
    time = run("git", "log", "-1", "--format=%ct", cwd=ROOT, check=True).stdout.strip()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": time}
    done = run(sys.executable, copy / "scripts/package", "--output", tmp_path / "dist", env=environment)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == package.read_bytes()


def test_library_with_wrong_hash_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "voice-agent" / "wheels"
    copy = copy_sources(tmp_path / "copy")
    lock = copy / "packaging" / "wheels.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    cache.mkdir(parents=True)
    # Without an index pip cannot download, and the cache is not accepted in its place.
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_NO_INDEX": "1"}
    done = run(sys.executable, copy / "scripts/package", "--output", tmp_path, env=environment)
    assert done.returncode == 1
    assert "cannot be downloaded" in done.stderr
    assert not list(tmp_path.glob("*.deb"))


def test_package_contains_all_modules_and_no_other_sources(tree: Path) -> None:
    library = tree / "usr/lib/voice-agent"
    tracked = run("git", "ls-files", "agent", cwd=ROOT, check=True).stdout.split()
    expected = {name for name in tracked if name.endswith((".py", ".html")) and (ROOT / name).exists()}
    assert {str(path.relative_to(library)) for path in (library / "agent").rglob("*") if path.is_file()} == expected
    parts = ("recognition", "natural-voice", "wake-word", "spoken-requests", "vosk")
    assert {path.name for path in library.iterdir()} == {
        "agent", "vendor", "add.sh", *(f"add-{part}" for part in parts), *(f"{part}.txt" for part in parts),
    }  # fmt: skip
    assert not list(tree.rglob("*.pyc")) and not list((library / "vendor").rglob("*.c"))


def test_command_ignores_python_variables_and_modules_of_the_user(tree: Path, tmp_path: Path) -> None:
    trap = tmp_path / "agent"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('this is not voice-agent')\n")
    (tmp_path / "websocket.py").write_text("raise SystemExit('this is not websocket-client')\n")
    command = [sys.executable, "-I", tree / "usr/bin/voice-agent"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    check = [*command, "config", "check", "--config", tree / "etc/voice-agent/config.yaml"]
    done = run(*check, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    # The local speech server, which is a process of its own, imports the same modules.
    done = run(*command, "say", "--output", "speech.wav", "Hello.", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "speech.wav").stat().st_size > 10_000


def test_bundled_libraries_are_those_of_the_lock_file(tree: Path) -> None:
    vendor = tree / "usr/lib/voice-agent/vendor"
    locked = re.findall(r"^([\w-]+)==(\S+)", (ROOT / "packaging/wheels.txt").read_text(), re.MULTILINE)
    bundled = {path.name.removesuffix(".dist-info") for path in vendor.glob("*.dist-info")}
    assert bundled == {f"{name.replace('-', '_')}-{version}" for name, version in locked}


def test_configuration_announces_with_the_local_voice(tree: Path, control: Path) -> None:
    config = load(str(tree / "etc/voice-agent/config.yaml"), {})
    assert config.conversation.mode == "announce"
    assert config.synthesis.services == ("local",)
    assert (control / "conffiles").read_text().split() == ["/etc/voice-agent/config.yaml"]


def test_credentials_directory_is_readable_by_root_only(package: Path) -> None:
    lines = run("dpkg-deb", "-c", package, check=True).stdout.splitlines()
    (credentials,) = [line for line in lines if line.endswith("/credentials/")]
    assert credentials.startswith("drwx------ root/root")
    assert all(" root/root " in line for line in lines)


def test_maintainer_scripts_are_executable_posix_shell(control: Path) -> None:
    for name in ("postinst", "prerm", "postrm"):
        script = control / name
        assert script.stat().st_mode & 0o111, name
        run("dash", "-n", script, check=True)


def commands() -> list[str]:
    """Return the names of all commands, from the help."""
    help = run(sys.executable, "-m", "agent", "--help", cwd=ROOT, check=True).stdout
    names = re.findall(r"^    ([a-z][a-z-]+)", help, re.MULTILINE)
    assert {"run", "doctor", "test-microphone"} <= set(names)
    return names


@pytest.mark.parametrize(
    ("part", "active", "restarted", "broken"),
    [
        ("recognition", ["voice-agent", "voice-agent-server"], ["voice-agent", "voice-agent-server"], "none"),
        ("recognition", ["voice-agent", "voice-agent-server"], ["voice-agent", "voice-agent-server"], "voice-agent"),
        ("natural-voice", ["voice-agent-server"], ["voice-agent-server"], "none"),
        ("natural-voice", [], [], "none"),
        ("wake-word", ["voice-agent", "voice-agent-server"], ["voice-agent"], "none"),
    ],
)
def test_the_running_services_that_use_an_added_part_restart(
    tmp_path: Path, part: str, active: list[str], restarted: list[str], broken: str
) -> None:
    """With stand-ins for the programs of the system, and other directories."""
    names = {"/usr/lib/voice-agent": "lib", "/usr/bin/python3": "bin/python3", "/run/systemd/system": "systemd"}
    for folder in ("lib", "bin", "systemd"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lib" / part).mkdir()
    for script in ("add.sh", f"add-{part}"):
        text = (ROOT / "packaging" / script).read_text()
        for path, replacement in names.items():
            text = text.replace(path, str(tmp_path / replacement))
        (tmp_path / "lib" / script).write_text(text)
    running = "|".join(f"*{unit}.service" for unit in active) or "none"
    for program, body in {
        "id": "echo 0",
        "dpkg": "echo arm64",
        "apt-get": ":",
        "python3": f'case "$*" in *install*) mkdir {tmp_path}/lib/{part}.new ;; esac',
        "systemctl": f'case "$*" in restart*) echo "$2" >>{tmp_path}/log && [ "$2" != {broken}.service ] ;; '
        f"{running}) ;; *) exit 3 ;; esac",
    }.items():
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / program).chmod(0o755)
    done = run("sh", tmp_path / "lib" / f"add-{part}", env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    assert done.returncode == (broken != "none"), done.stderr
    assert f"journalctl -u {broken}\n" in done.stderr or broken == "none"
    log = tmp_path / "log"
    assert (log.read_text().split() if log.exists() else []) == [f"{unit}.service" for unit in restarted]


def test_manual_page_names_every_command() -> None:
    page = (ROOT / "packaging/voice-agent.1").read_text().replace("\\-", "-")
    described = set(re.findall(r"^\.BR? ([a-z-]+)", page, re.MULTILINE)) | set(re.findall(r'", " ([a-z]+)', page))
    assert [name for name in commands() if name not in described] == []


@pytest.mark.parametrize("document", ["CHANGELOG.md", "README.md"])
def test_document_names_every_command(document: str) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", (ROOT / document).read_text()))
    named = set(re.findall(r"[a-z-]+", code))
    assert [name for name in commands() if name not in named] == []


def test_files_do_not_contain_the_build_directory(tree: Path) -> None:
    assert [path for path in tree.rglob("*") if path.is_file() and str(ROOT).encode() in path.read_bytes()] == []


def test_suggested_packages_are_named_where_they_are_needed() -> None:
    control = (ROOT / "packaging/control").read_text()
    (suggests,) = re.findall(r"^Suggests: (.+)$", control, re.MULTILINE)
    folders = ("agent", "docs", "packaging", "systemd")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [path.read_text(errors="replace") for path in files if path.name != "control"]
    unused = [name for name in suggests.split(", ") if not any(name in text for text in texts)]
    assert unused == []

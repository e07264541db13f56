"""The Debian package: the same bytes each time, whole, and deaf to whatever surrounds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.settings.loader import load

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "package"


def build(folder: Path, script: Path = SCRIPT, umask: int = 0o022) -> Path:
    done = subprocess.run(
        [sys.executable, script, "--output", folder], capture_output=True, text=True, umask=umask, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it installs, unpacked somewhere else."""
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def control(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    subprocess.run(["dpkg-deb", "-e", package, folder], check=True)
    return folder


def test_the_same_commit_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again", umask=0o077).read_bytes() == package.read_bytes()


def test_another_place_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "somewhere else"
    # In another order, and without the repository: the hour is then told from outside.
    for name in ("systemd", "packaging", "config", "agent", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    strangers = set(untracked())
    for path in strangers:
        (copy / path).unlink(missing_ok=True)
    hour = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    done = subprocess.run(
        [sys.executable, copy / "scripts/package", "--output", tmp_path / "dist"],
        capture_output=True,
        text=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": hour.stdout.strip()},
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == package.read_bytes()


def untracked() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "agent", "config", "systemd"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return (Path(name) for name in listed.stdout.split("\0") if name)


def test_a_library_with_another_hash_is_not_packed(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "voice-agent" / "wheels"
    copy = tmp_path / "copy"
    for name in ("packaging", "scripts", "agent", "config", "systemd"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    lock = copy / "packaging" / "wheels.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    cache.mkdir(parents=True)
    # As if there were no index to fetch from: what was fetched before must not do instead.
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_NO_INDEX": "1"}
    command = [sys.executable, copy / "scripts/package", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert not list(tmp_path.glob("*.deb"))


def test_all_modules_are_in_it_and_nothing_else_of_the_repository(tree: Path) -> None:
    library = tree / "usr/lib/voice-agent"
    tracked = subprocess.run(["git", "ls-files", "agent"], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {name for name in tracked.stdout.split() if name.endswith(".py") and (ROOT / name).exists()}
    assert {str(path.relative_to(library)) for path in (library / "agent").rglob("*") if path.is_file()} == wanted
    assert {path.name for path in library.iterdir()} == {"agent", "vendor", "add-recognition", "recognition.txt"}
    assert not list(tree.rglob("*.pyc")) and not list((library / "vendor").rglob("*.c"))


def test_it_runs_where_it_is_unpacked_whatever_the_user_has_set(tree: Path, tmp_path: Path) -> None:
    trap = tmp_path / "agent"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('this is not voice-agent')\n")
    (tmp_path / "websocket.py").write_text("raise SystemExit('this is not websocket-client')\n")
    done = subprocess.run(
        [sys.executable, "-I", tree / "usr/bin/voice-agent", "config", "check", "--config",
         tree / "etc/voice-agent/config.yaml"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        [sys.executable, "-I", tree / "usr/bin/voice-agent", "say", "--output", "said.wav", "Hello."],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=600,
    )  # fmt: skip
    # The local speech server is a second process, and finds the same modules.
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "said.wav").stat().st_size > 10_000


def test_the_carried_libraries_are_those_of_the_lock(tree: Path) -> None:
    vendor = tree / "usr/lib/voice-agent/vendor"
    locked = re.findall(r"^([\w-]+)==(\S+)", (ROOT / "packaging/wheels.txt").read_text(), re.MULTILINE)
    found = {path.name.removesuffix(".dist-info") for path in vendor.glob("*.dist-info")}
    assert found == {f"{name.replace('-', '_')}-{version}" for name, version in locked}


def test_its_configuration_only_announces_and_needs_neither_key_nor_network(tree: Path, control: Path) -> None:
    config = load(str(tree / "etc/voice-agent/config.yaml"), {})
    assert config.conversation.mode == "announce"
    assert config.synthesis.services == ("local",)
    assert (control / "conffiles").read_text().split() == ["/etc/voice-agent/config.yaml"]


def test_only_root_may_look_at_the_keys(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    line = next(line for line in listed.splitlines() if line.endswith("/credentials/"))
    assert line.startswith("drwx------ root/root")
    assert all(" root/root " in each for each in listed.splitlines())


def test_the_scripts_of_the_maintainer_are_sound_shell(control: Path) -> None:
    for name in ("postinst", "prerm", "postrm"):
        script = control / name
        assert script.stat().st_mode & 0o111, f"{name} cannot be run"
        subprocess.run(["dash", "-n", script], check=True)


def commands() -> list[str]:
    """Every command there is, from the program's own help."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found = re.findall(r"^    ([a-z][a-z-]+)", done.stdout, re.MULTILINE)
    assert {"run", "doctor", "test-microphone"} <= set(found)
    return found


def test_the_manual_page_the_changelog_and_the_readme_know_every_command() -> None:
    page = (ROOT / "packaging/voice-agent.1").read_text().replace("\\-", "-")
    described = set(re.findall(r"^\.BR? ([a-z-]+)", page, re.MULTILINE)) | set(re.findall(r'", " ([a-z]+)', page))
    assert [name for name in commands() if name not in described] == []
    for document in ("CHANGELOG.md", "README.md"):
        said = set(re.findall(r"[a-z-]+", " ".join(re.findall(r"`([^`\n]+)`", (ROOT / document).read_text()))))
        assert [name for name in commands() if name not in said] == [], document


def test_what_it_installs_says_nothing_of_the_machine_it_was_built_on(tree: Path) -> None:
    for path in tree.rglob("*"):
        if path.is_file():
            assert str(ROOT).encode() not in path.read_bytes(), path

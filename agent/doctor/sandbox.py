"""Running the examination as the service runs: as its user, with its keys, inside its sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from agent.doctor.systemd import RUNNING, UNIT

HERE = "--here"
"""The option that says: not once more."""

_PATIENCE_SECONDS = 5.0
# What belongs to the life of the service, and not to what it may do. Its runtime directory would be taken away from a
# running daemon when we end.
_LEFT_OUT = (
    "Type",
    "NotifyAccess",
    "Exec",
    "Restart",
    "Watchdog",
    "Timeout",
    "KillMode",
    "RuntimeDirectory",
    "SyslogIdentifier",
    "Standard",
    "RemainAfterExit",
    "PIDFile",
    "ProtectProc",
)


def why_not() -> str | None:
    """Why the examination cannot be run as the service, in a sentence; ``None`` where it can."""
    if os.geteuid() != 0:
        return "run by this user, not as the service: with sudo it would be"
    if not RUNNING.is_dir() or shutil.which("systemd-run") is None:
        return "run as root, not as the service: systemd is not running here"
    if _unit() is None:
        return f"run as root, not as the service: {UNIT} is not installed"
    return None


def run_inside(arguments: Sequence[str]) -> int:
    """Runs ``voice-agent doctor`` with these arguments as the service would run it; gives its exit code."""
    text = _unit()
    assert text is not None  # why_not() was asked before
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
    command += [word for line in properties(text) for word in ("-p", line)]
    program = [sys.executable, "-m", "agent.cli", "doctor", HERE, *arguments]
    return subprocess.run([*command, "--", *program]).returncode


def properties(unit: str) -> list[str]:
    """``Name=value`` of what the unit allows, forbids and hands over, drop-ins included, in its order."""
    found, section = [], ""
    for line in unit.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            name = line.partition("=")[0].strip()
            if not name.startswith(_LEFT_OUT):
                found.append(f"{name}={line.partition('=')[2].strip()}")
    if "DynamicUser=yes" in found and not any(each.startswith("User=") for each in found):
        # The user that the service has: another one would take its directories away from it.
        found.append(f"User={UNIT.removesuffix('.service')}")
    return found


def _unit() -> str | None:
    try:
        done = subprocess.run(
            ["systemctl", "cat", UNIT], capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

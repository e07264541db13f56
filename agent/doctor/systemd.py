"""What systemd says of the service."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from agent.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding

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

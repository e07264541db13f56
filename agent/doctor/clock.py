"""Whether the clock is right: with a wrong one every certificate looks false."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import agent
from agent.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding

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

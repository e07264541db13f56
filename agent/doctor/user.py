"""Who examines: what holds for one user need not hold for another."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from agent.doctor.finding import FINE, Finding

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

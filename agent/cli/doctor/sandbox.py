"""Running the examination as the service runs: as its user, with its keys, inside its sandbox."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from agent.cli.doctor.finding import CONFIGURATION_EXIT, SERVICE_EXIT, Finding
from agent.cli.doctor.machine import RUNNING, UNIT, is_synchronised, show
from agent.errors import AgentError

VARIABLE = "DOCTOR_TOLD"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """``unit``: the properties of the service; ``synchronised``: whether somebody keeps the clock right. ``None`` where
    root did not know either."""

    unit: dict[str, str] | None = None
    synchronised: bool | None = None

    def as_variable(self) -> str:
        """``NAME=VALUE`` for the environment of the examination."""
        return f"{VARIABLE}={json.dumps(asdict(self))}"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> HostFacts | None:
        """``None`` where nobody has told anything: one can ask by oneself."""
        if VARIABLE not in environ:
            return None
        try:
            return cls(**json.loads(environ[VARIABLE]))
        except (ValueError, TypeError):
            return cls()


HERE = "--here"
"""The option that says: not once more."""

_PATIENCE_SECONDS = 5.0
# What belongs to the life of the service, and not to what it may do. Its runtime directory would be taken away from a
# running daemon when we end.
_LEFT_OUT = (
    "Type",
    "NotifyAccess",
    "ExecStart",
    "ExecStop",
    "ExecReload",
    "ExecCondition",
    "Restart",
    "Watchdog",
    "Timeout",
    "KillMode",
    "RuntimeDirectory",
    "SyslogIdentifier",
    "Standard",
    "RemainAfterExit",
    "PIDFile",
)
_OUR_EXITS = (0, SERVICE_EXIT, AgentError.exit_code, CONFIGURATION_EXIT)


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
    code = subprocess.run(_inside(arguments)).returncode
    _say_if_not_ours(code)
    return code


def findings_inside(arguments: Sequence[str]) -> list[Finding] | None:
    """What ``voice-agent doctor`` finds when it is run as the service; ``None`` where it could not be run so."""
    done = subprocess.run([*_inside(arguments), "--json"], stdout=subprocess.PIPE, text=True)
    _say_if_not_ours(done.returncode)
    try:
        return [Finding(**found) for found in json.loads(done.stdout)["findings"]]
    except (ValueError, KeyError, TypeError):
        return None


def _say_if_not_ours(code: int) -> None:
    if code not in _OUR_EXITS:
        print(f"(it could not be run as the service; voice-agent doctor {HERE} runs it as root)", file=sys.stderr)


def _inside(arguments: Sequence[str]) -> list[str]:
    text = _unit()
    assert text is not None  # why_not() was asked before
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
    command += [word for line in properties(text) for word in ("-p", line)]
    # A user that exists only for a while may be unknown to the system's bus, and then gets no answer in there.
    command += ["--setenv", HostFacts(show(), is_synchronised()).as_variable()]
    return [*command, "--", *program(text, arguments)]


def program(unit: str, arguments: Sequence[str]) -> list[str]:
    """What the unit starts, with ``doctor`` in the place of ``run``; a configuration that it names is examined, unless
    ``arguments`` name another."""
    started = [line.partition("=")[2] for line in _service(unit) if line.startswith("ExecStart=")]
    try:
        words = shlex.split(next((line for line in reversed(started) if line), "")) or [""]
    except ValueError:
        words = [""]  # a quote that is not closed: systemd starts nothing either, and its state says so
    words[0] = words[0].lstrip("@-:+!|")
    if "run" not in words:
        return [sys.argv[0], "doctor", HERE, *arguments]
    at = words.index("run")
    config = [] if "--config" in arguments else words[at + 1 :]
    return [*words[:at], "doctor", HERE, *config, *arguments]


def properties(unit: str) -> list[str]:
    """``Name=value`` of what the unit allows, forbids and hands over, drop-ins included, in its order."""
    found = [line for line in _service(unit) if not line.startswith(_LEFT_OUT)]
    if "DynamicUser=yes" in found and not any(each.startswith("User=") for each in found):
        # The user that the service has: another one would take its directories away from it.
        found.append(f"User={UNIT.removesuffix('.service')}")
    return found


def _service(unit: str) -> list[str]:
    """``Name=value`` of all there is in the section of that name."""
    found, section = [], ""
    for line in unit.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append(f"{name.strip()}={value.strip()}")
    return found


def _unit() -> str | None:
    try:
        done = subprocess.run(["systemctl", "cat", UNIT], capture_output=True, text=True, timeout=_PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

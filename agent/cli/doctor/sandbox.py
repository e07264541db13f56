"""Runs the doctor like the service: as its user, with its keys, inside its sandbox."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from agent.cli.doctor.machine import UNIT, UnitState, command_output, has_systemd, is_synchronized, unit_state
from agent.cli.doctor.result import CONFIGURATION_EXIT, SERVICE_EXIT, CheckResult
from agent.errors import AgentError
from agent.system.named_tuple import NamedTuple

HERE = "--here"
"""The option that makes the doctor run the checks in its own process, not as the service."""

FACTS_VARIABLE = "DOCTOR_HOST_FACTS"
"""The environment variable with the ``HostFacts``."""

# The directives with these prefixes control the life cycle of the service, not its permissions. RuntimeDirectory is
# among them because systemd removes the directory when the transient unit ends, and with it the control socket of a
# running daemon (man systemd.exec, RuntimeDirectory=).
_OMITTED = (
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
_SPECIFIERS = {
    "%t": "/run",
    "%S": "/var/lib",
    "%C": "/var/cache",
    "%L": "/var/log",
    "%E": "/etc",
    "%T": "/tmp",
    "%V": "/var/tmp",
    "%n": UNIT,
    "%%": "%",
}
_DOCTOR_EXITS = (0, SERVICE_EXIT, AgentError.exit_code, CONFIGURATION_EXIT)


class HostFacts(NamedTuple):
    """Facts about the machine that root passes to the doctor inside the sandbox. Immutable.

    The system bus may not know a dynamic user; then ``systemctl`` and ``timedatectl`` get no answer inside the sandbox.

    Args:
        unit: The properties of the service's unit; ``None`` if unknown.
        synchronized: Whether a time service sets the clock; ``None`` if unknown.
    """

    unit: UnitState | None = None
    synchronized: bool | None = None

    def as_variable(self) -> str:
        """Return ``NAME=VALUE`` for the environment."""
        return f"{FACTS_VARIABLE}={json.dumps(self._asdict())}"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> HostFacts | None:
        """Return the facts from the environment: ``None`` without the variable, unknown facts if it is invalid."""
        if FACTS_VARIABLE not in environ:
            return None
        try:
            return cls(**json.loads(environ[FACTS_VARIABLE]))
        except (ValueError, TypeError):
            return cls()


def why_not_as_service() -> str | None:
    """Return the reason why the doctor cannot run as the service; ``None`` if it can."""
    if os.geteuid() != 0:
        return "the checks run as this user: use sudo to run them as the service"
    if not has_systemd() or shutil.which("systemd-run") is None:
        return "the checks run as root, not as the service: systemd does not run here"
    if _unit_text() is None:
        return f"the checks run as root, not as the service: {UNIT} is not installed"
    return None


def run_as_service(arguments: Sequence[str]) -> int:
    """Run ``voice-agent doctor`` with these arguments as the service; return its exit code."""
    code = subprocess.run(_command(arguments)).returncode
    _report_failure(code)
    return code


def results_as_service(arguments: Sequence[str]) -> list[CheckResult] | None:
    """Run ``voice-agent doctor`` as the service; return its results, or ``None`` if it printed none."""
    done = subprocess.run([*_command(arguments), "--json"], stdout=subprocess.PIPE, text=True)
    _report_failure(done.returncode)
    try:
        return [CheckResult(**result) for result in json.loads(done.stdout)["findings"]]
    except (ValueError, KeyError, TypeError):
        return None


def _report_failure(code: int) -> None:
    if code not in _DOCTOR_EXITS:
        print(
            f"(the checks cannot run as the service: exit code {code}. "
            f"Type sudo voice-agent doctor {HERE} to run them as root.)",
            file=sys.stderr,
        )


def _command(arguments: Sequence[str]) -> list[str]:
    text = _unit_text()
    assert text is not None, "why_not_as_service() was not called before"
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
    command += [word for line in sandbox_properties(text) for word in ("-p", line)]
    # lgpio creates a pipe in this directory. The runtime directory of the unit does not exist here (_OMITTED).
    command += ["--setenv", "LG_WD=/tmp"]
    command += ["--setenv", HostFacts(unit_state(), is_synchronized()).as_variable()]
    return [*command, "--", *doctor_command(text, arguments)]


def doctor_command(unit: str, arguments: Sequence[str]) -> list[str]:
    """Return ``ExecStart`` of the unit with ``doctor`` in place of ``run``.

    The ``--config`` of the unit applies unless ``arguments`` contain another one.

    Args:
        unit: The unit with its drop-ins, as ``systemctl cat`` prints it.
        arguments: The options of ``voice-agent doctor``.
    """
    starts = [line.partition("=")[2] for line in _service_lines(unit) if line.startswith("ExecStart=")]
    try:
        words = shlex.split(next((line for line in reversed(starts) if line), "")) or [""]
    except ValueError:
        words = [""]  # an unbalanced quote: systemd rejects the unit too; its state shows this
    words[0] = words[0].lstrip("@-:+!|")
    if "run" not in words:
        return [sys.argv[0], "doctor", HERE, *arguments]
    position = words.index("run")
    config = [] if "--config" in arguments else words[position + 1 :]
    return [*words[:position], "doctor", HERE, *config, *arguments]


def sandbox_properties(unit: str) -> list[str]:
    """Return ``Name=value`` of each directive that sets the permissions, resources and credentials of the service.

    Args:
        unit: The unit with its drop-ins, as ``systemctl cat`` prints it.
    """
    # A transient unit takes its properties literally: systemd expands specifiers in unit files only (systemd #5699).
    lines = [
        re.sub("%.", lambda match: _SPECIFIERS.get(match.group(), match.group()), line)
        for line in _service_lines(unit)
        if not line.startswith(_OMITTED)
    ]
    if "DynamicUser=yes" in lines and not any(line.startswith("User=") for line in lines):
        # The same user name as the service: with another one systemd would change the owner of the service's state and
        # cache directories under the running daemon (man systemd.exec, DynamicUser=).
        lines.append(f"User={UNIT.removesuffix('.service')}")
    return lines


def _service_lines(unit: str) -> list[str]:
    """Return ``Name=value`` of each directive in the section ``[Service]``."""
    lines, section = [], ""
    for line in unit.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            lines.append(f"{name.strip()}={value.strip()}")
    return lines


def _unit_text() -> str | None:
    return command_output("systemctl", "cat", UNIT)

"""Check of the echo canceller: reports the measurements of the running daemon."""

from __future__ import annotations

from agent.cli.control import request
from agent.cli.doctor.result import OK, WARNING, CheckResult
from agent.cli.status_table import describe_echo
from agent.errors import AgentError


def check_echo(path: str | None) -> CheckResult:
    """Return the interruption mode and the measurements of the echo canceller of the running daemon.

    Args:
        path: The value of ``--config``.
    """
    try:
        echo = request(path, "status").get("echo")
    except AgentError:
        echo = None
    if not isinstance(echo, dict):
        return CheckResult("echo", OK, "echo.canceller is on; while voice-agent runs, its measures are shown here")
    if echo.get("mode") == "half-duplex" and echo.get("delay_seconds") is None:
        cure = "voice-agent say TEXT (the delay is found in the first seconds of playback)"
        return CheckResult("echo", WARNING, describe_echo(echo), cure)
    return CheckResult("echo", OK, describe_echo(echo))

"""Runs the programs that control other players (pactl and busctl)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from agent.errors import AgentError

TIMEOUT_SECONDS = 2.0
_EXCERPT = 200


class ProgramError(AgentError):
    """A program is missing, failed, took too long, or printed output that cannot be parsed."""


class StreamEndedError(ProgramError):
    """The stream to restore has ended.

    The sound server will give the changed volume to the next stream of the program, so the change must be kept.
    """


def run(argv: Sequence[str], environ: Mapping[str, str], seconds: float = TIMEOUT_SECONDS) -> str:
    """Run a program and return its output.

    Args:
        argv: The program and its arguments.
        environ: The whole environment of the program.
        seconds: The timeout.

    Raises:
        ProgramError: The program is missing, failed or took too long.
    """
    try:
        done = subprocess.run(
            argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except FileNotFoundError as error:
        raise ProgramError(f"there is no program {argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{argv[0]} did not end within {seconds:g} s") from error
    except OSError as error:
        raise ProgramError(f"{argv[0]} cannot be started: {error.strerror}") from error
    if done.returncode:
        raise ProgramError(f"{argv[0]}: {done.stderr.strip()[:_EXCERPT] or f'exit code {done.returncode}'}")
    return done.stdout


def parse(output: str) -> Any:
    """Parse the JSON output of a program. Raises ``ProgramError``."""
    try:
        return json.loads(output)
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"the output is no JSON: {error}") from error

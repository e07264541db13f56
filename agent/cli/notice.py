"""Prints messages to the user of a command, separate from the results of the command."""

from __future__ import annotations

import sys

from agent.system.text import escape


def notice(text: str, limit: int = 600) -> None:
    """Print one line to standard error, with at most ``limit`` characters of ``text``."""
    print(f"voice-agent: {escape(text, limit)}", file=sys.stderr, flush=True)

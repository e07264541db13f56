"""What one check has found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FINE, DOUBTFUL, BROKEN = "fine", "doubtful", "broken"

CONFIGURATION_EXIT, SERVICE_EXIT = 78, 69


@dataclass(frozen=True, slots=True)
class Finding:
    """``subject``: what was looked at; ``verdict``: ``fine``, ``doubtful`` or ``broken``; ``saw``: what was seen, in
    one sentence; ``cure``: the line to change or the command to type, empty where there is nothing to do. ``own``:
    whether it is the configuration or a key that has to be mended, and not something around it."""

    subject: str
    verdict: str
    saw: str
    cure: str = ""
    own: bool = False


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where nothing is broken; 78 where the configuration or a key is, else 69."""
    broken = [finding for finding in findings if finding.verdict == BROKEN]
    if not broken:
        return 0
    return CONFIGURATION_EXIT if any(finding.own for finding in broken) else SERVICE_EXIT

"""How the time for an orderly end is shared out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShutdownBudget:
    """In seconds. What neither the local server nor the frontends nor the captions get is the stages': each part is a
    part of the whole, so that nothing is left out however short that is, and no longer than it is of use."""

    stages: float
    local_server: float = 0.0
    frontends: float = 0.0
    captions: float = 0.0

    @classmethod
    def of(cls, seconds: float, *, local_server: bool, frontends: bool, captions: bool) -> ShutdownBudget:
        server = min(3.0, 0.3 * seconds) if local_server else 0.0
        doors = min(1.5, 0.15 * seconds) if frontends else 0.0
        lines = min(0.5, 0.1 * seconds) if captions else 0.0
        return cls(seconds - server - doors - lines, server, doors, lines)

"""Table of the local speech engines; an engine is imported when it is first created."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.server.tts.engine import TtsEngine

ENGINES: dict[str, str] = {
    "auto": "agent.server.tts.auto",
    "hibari": "agent.server.tts.hibari",
    "flite": "agent.server.tts.flite",
    "espeak": "agent.server.tts.espeak",
    "tone": "agent.server.tts.tone",
}
"""Name of each engine and the module that defines it. Each module has a function ``create() -> TtsEngine``."""


def create(name: str) -> TtsEngine:
    """Create the engine ``name``, a key of ``ENGINES``."""
    engine: TtsEngine = import_module(ENGINES[name]).create()
    return engine

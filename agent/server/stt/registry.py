"""Table of the local recognition engines; an engine is imported when it is first created."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.server.stt.engine import SttEngine, SttOptions

ENGINES: dict[str, str] = {
    "moonshine": "agent.server.stt.moonshine",
    "vosk": "agent.server.stt.vosk",
    "script": "agent.server.stt.script",
}
"""Name of each engine and the module that defines it. Each module has ``create(options: SttOptions) -> SttEngine``."""

CHOICES = ("auto", *ENGINES, "none")
"""Values of the option ``recognition``: the engines, the automatic choice, and no recognition."""


def create(name: str, options: SttOptions) -> SttEngine:
    """Create the engine ``name``, one of ``CHOICES``.

    ``auto`` selects moonshine if it is installed, otherwise vosk if it is installed and a model is configured.

    Raises:
        UsageError: The script or the model cannot be read, or the requested package is missing.
    """
    from agent.server.stt import engine  # the daemon imports this module for the names only

    if name == "none":
        return engine.UnavailableRecognizer(
            "speech recognition is disabled on this server: start it with --recognition auto"
        )
    if name == "auto":
        if engine.is_installed("moonshine_voice"):
            name = "moonshine"
        elif options.model_path and engine.is_installed("vosk"):
            name = "vosk"
        else:
            from agent.system.optional_parts import install_command  # rarely needed

            return engine.UnavailableRecognizer(
                f"no speech recognizer on this machine: {install_command('recognition')}; or "
                f"{install_command('vosk')}, and set server.model_path to the directory of a model"
            )
    created: SttEngine = import_module(ENGINES[name]).create(options)
    return created

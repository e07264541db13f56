"""The commands that install optional parts of the program."""

from __future__ import annotations

import os

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_EXTRAS = {
    "recognition": "recognition",
    "natural-voice": "voice",
    "wake-word": "wake",
    "spoken-requests": "intents",
    "vosk": "vosk",
}
_OPTIONS_OF_RUN = ("natural-voice", "wake-word", "spoken-requests", "vosk")


def install_command(part: str, root: str = _ROOT) -> str:
    """Return the command that installs a part on this machine.

    Args:
        part: A part of the Debian package (``add-PART`` beside the package ``agent``).
        root: The directory that contains the package ``agent``.
    """
    script = os.path.join(root, f"add-{part}")
    if os.path.exists(script):
        return f"sudo {script}"
    if part in _OPTIONS_OF_RUN and os.path.exists(os.path.join(root, "scripts", "run")):
        return f"scripts/run --{part}"
    return f'pip install "edge-voice-agent[{_EXTRAS[part]}]" (into the environment that voice-agent runs in)'

"""Returns the command that installs an optional part of the program."""

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
"""The extra in ``setup.cfg`` for each part."""
_PART_OF_THE_SETUP = "recognition"
"""The part that ``scripts/run`` installs without an option, where it can. The other parts are options of the script."""


def install_command(part: str, root: str = _ROOT) -> str:
    """Return the command that installs a part on this machine.

    Args:
        part: A key of ``_EXTRAS``. The Debian package has a script ``add-PART`` beside the package ``agent``.
        root: The directory that contains the package ``agent``.
    """
    script = os.path.join(root, f"add-{part}")
    if os.path.exists(script):
        return f"sudo {script}"
    if part != _PART_OF_THE_SETUP and os.path.exists(os.path.join(root, "scripts", "run")):
        return f"scripts/run --{part}"
    return f'pip install "edge-voice-agent[{_EXTRAS[part]}]" (into the environment that voice-agent runs in)'

"""The command ``voice-agent voices``: list the voices of the local engines."""

from __future__ import annotations

import json

from agent.errors import UsageError
from agent.server.tts.voices import list_voices


def voices(*, as_json: bool = False) -> int:
    """Print the value of ``synthesis.local.voice``, the language and a description of each voice.

    Raises:
        UsageError: No engine is installed.
    """
    found = list_voices()
    if as_json:
        print(json.dumps([voice._asdict() for voice in found]))
        return 0
    if not found:
        raise UsageError("there is no local voice: neither flite nor espeak-ng is installed. Install one of them")
    width = max(len(voice.name) for voice in found)
    codes = max(len(voice.language) for voice in found)
    for voice in found:
        print(f"{voice.name:{width}}  {voice.language:{codes}}  {voice.about}")
    return 0

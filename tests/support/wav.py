"""Reads WAV files with the standard library, independently of the package under test."""

from __future__ import annotations

import wave
from pathlib import Path

from agent.audio.format import Format


def read_wav(path: Path) -> tuple[Format, bytes]:
    """Return the format and the audio of a file of 16-bit PCM; raise ``wave.Error`` if it is none."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2, f"{path} has samples of {file.getsampwidth()} bytes"
        return Format(file.getframerate(), file.getnchannels()), file.readframes(file.getnframes())

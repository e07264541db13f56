"""WAV files as the standard library reads them, so that nobody's own writing is judged by their own reading."""

from __future__ import annotations

import wave
from pathlib import Path

from agent.audio.format import Format


def read_wav(path: Path) -> tuple[Format, bytes]:
    """The format and the whole sound of a file of 16-bit PCM; ``wave.Error`` where it is none."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2, f"{path} has samples of {file.getsampwidth()} bytes"
        return Format(file.getframerate(), file.getnchannels()), file.readframes(file.getnframes())

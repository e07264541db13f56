"""Speech of the installed voices at 16 kHz mono s16le."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from agent.audio.convert import Resampler
from agent.audio.format import SPEECH
from support.wav import read_wav

VOICES = {
    "flite slt": ["flite", "-voice", "slt", "-t", "{text}", "-o", "{path}"],
    "flite rms": ["flite", "-voice", "rms", "-t", "{text}", "-o", "{path}"],
    "espeak-ng": ["espeak-ng", "{text}", "-w", "{path}"],
    "espeak-ng female": ["espeak-ng", "-v", "en-us+f3", "{text}", "-w", "{path}"],
}


@functools.cache
def spoken(text: str, voice: str = "flite slt") -> bytes:
    """Return a text spoken by a voice of ``VOICES``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [word.format(text=text, path=path) for word in VOICES[voice]]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        format, sound = read_wav(path)
    resampler = Resampler(format.rate, SPEECH.rate)
    return resampler.feed(sound) + resampler.finish()

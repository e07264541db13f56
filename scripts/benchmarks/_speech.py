"""Shared by the benchmarks that speak to the daemon: questions in the voices of the local engines."""

from __future__ import annotations

import functools
from array import array

from agent.audio.convert import FormatConverter
from agent.audio.format import SPEECH, Format
from agent.server.tts import registry
from agent.server.tts.engine import VoiceOptions

SILENCE_LEVEL = 300
"""Amplitude up to which a sample of a local voice is silence."""


@functools.lru_cache(maxsize=64)
def spoken(text: str, voice: str = "") -> bytes:
    """Return ``text`` in a local voice without the silence around it: 16 kHz mono s16le."""
    audio = registry.create("auto").speak(text, VoiceOptions(SPEECH.rate, voice))
    converter = FormatConverter(Format(audio.rate), SPEECH)
    samples = array("h", converter.feed(b"".join(audio.chunks)) + converter.finish())
    loud = [at for at, sample in enumerate(samples) if abs(sample) > SILENCE_LEVEL]
    return samples[loud[0] : loud[-1] + 1].tobytes()

"""Speech engine that selects flite or espeak-ng for each sentence."""

from __future__ import annotations

import shutil

from agent.errors import AudioError
from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions
from agent.server.tts.espeak import EspeakEngine
from agent.server.tts.flite import FliteEngine, can_pronounce


class AutoEngine:
    """Speaks English with flite if it is installed, everything else with espeak-ng. Thread-safe.

    flite sounds more natural. espeak-ng also speaks the texts with characters that flite omits. A voice
    ``flite:NAME`` or ``espeak:NAME`` selects the engine explicitly.
    """

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        return _select(text, options).speak(text, options)


def create() -> TtsEngine:
    """Create the engine; the entry point of the registry."""
    return AutoEngine()


def _select(text: str, options: VoiceOptions) -> TtsEngine:
    if options.voice.startswith("flite:"):
        return FliteEngine()
    if options.voice.startswith("espeak:"):
        return EspeakEngine()
    has_flite = options.code == "en" and shutil.which("flite") is not None
    if has_flite and can_pronounce(text):
        return FliteEngine()
    if shutil.which("espeak-ng"):
        return EspeakEngine()
    if has_flite:
        return FliteEngine()  # speaks the part of the text that it can pronounce
    raise AudioError("no speech engine on this machine: install flite (English) or espeak-ng (any language)")

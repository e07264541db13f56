"""Speech engine that selects the natural voice, flite or espeak-ng for each sentence."""

from __future__ import annotations

import logging
import shutil

from agent.errors import AudioError
from agent.server.tts import hibari
from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions
from agent.server.tts.espeak import EspeakEngine
from agent.server.tts.flite import FliteEngine, can_pronounce

log = logging.getLogger(__name__)


class AutoEngine:
    """Speaks English with the natural voice or flite if they are installed, and all other text with espeak-ng.

    flite sounds more natural than espeak-ng, and the natural voice (``hibari``) more natural than flite. espeak-ng also
    speaks English text with characters that the other engines omit. A voice ``hibari:NAME``, ``flite:NAME`` or
    ``espeak:NAME`` selects the engine explicitly. Thread-safe.

    Args:
        natural: The engine of the natural voice; ``None`` if this machine has none.
    """

    def __init__(self, natural: TtsEngine | None = None) -> None:
        self._natural = natural

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        if options.voice.startswith("hibari:"):
            if self._natural is None:
                raise AudioError(f"there is no natural voice on this machine. {hibari.install_hint()}")
            return self._natural.speak(text, options)
        has_other_voice = options.voice.startswith(("flite:", "espeak:"))
        if self._natural is not None and options.code == "en" and not has_other_voice and can_pronounce(text):
            try:
                return self._natural.speak(text, options)
            except AudioError as error:
                log.warning("speech server: another engine speaks, %s", error)
        return _select(text, options).speak(text, options)


def create() -> TtsEngine:
    """Create the engine; the entry point of the registry."""
    return AutoEngine(hibari.create() if hibari.is_suitable() else None)


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

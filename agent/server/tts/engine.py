"""Interface of the speech engines and the options that they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from agent.system.named_tuple import NamedTuple

LANGUAGE_NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "hindi": "hi", "polish": "pl", "russian": "ru", "swedish": "sv", "turkish": "tr", "arabic": "ar",
}  # fmt: skip


class VoiceOptions(NamedTuple):
    """Voice, language and speed of one synthesis. Immutable.

    Args:
        rate: Requested sample rate in Hz. An engine with a fixed rate may ignore it.
        voice: Name of a voice; empty selects the engine's default.
        language: A code such as ``en`` or ``de-AT``, or an English name such as ``german``.
        speed: Factor of the speaking rate; 1.0 is natural.
    """

    rate: int
    voice: str = ""
    language: str = ""
    speed: float = 1.0

    @property
    def code(self) -> str:
        """Two-letter code of the language; ``en`` if the language is unknown."""
        language = self.language.strip().lower()
        if language in LANGUAGE_NAMES:
            return LANGUAGE_NAMES[language]
        first = language.replace("_", "-").partition("-")[0]
        # Vachana's older language names start with a country ("IND-IN" is India). They fall back to English as well.
        return first if first.isalpha() and first.isascii() and len(first) == 2 else "en"


@dataclass(frozen=True, slots=True)
class SynthesizedAudio:
    """Output of an engine: mono s16le at ``rate`` Hz. Not thread-safe; owned by the thread that reads ``chunks``.

    A chunk may begin and end inside a sample. If ``chunks`` has a method ``close``, call it to stop early: it releases
    the resources of the engine.
    """

    rate: int
    chunks: Iterator[bytes] = field(repr=False)


class TtsEngine(Protocol):
    """Speaks one sentence at a time. Thread-safe."""

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        """Start the synthesis of ``text``.

        Raises:
            AudioError: The engine cannot speak; the message names the remedy. Reading ``chunks`` may raise it too.
        """
        ...

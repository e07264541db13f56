"""What a speech engine is, and which one speaks: the words that all engines share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from agent.errors import AudioError

ENGINES = ("auto", "flite", "espeak", "tone")
_LANGUAGES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "hindi": "hi", "polish": "pl", "russian": "ru", "swedish": "sv", "turkish": "tr", "arabic": "ar",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VoiceOptions:
    """How something is to be said. ``rate``: the rate in Hz that the listener wants; an engine that has only its own
    rate may give that. ``speed``: 1.0 is natural. ``language``: a code such as ``en`` or ``de-AT``, or a name."""

    rate: int
    voice: str = ""
    language: str = ""
    speed: float = 1.0

    @property
    def code(self) -> str:
        """The language as a code of two or three letters; English where nobody can tell."""
        language = self.language.strip().lower()
        if language in _LANGUAGES:
            return _LANGUAGES[language]
        first = language.replace("_", "-").partition("-")[0]
        # "ind" of IND-IN, an older name of a service, is India, whose common language there is English.
        return first if first.isalpha() and first.isascii() and len(first) == 2 else "en"


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound as an engine gives it: mono s16le at ``rate`` Hz, in chunks that may begin and end anywhere.

    Close ``chunks`` (a generator) when the rest is not wanted: the engine then lets go of what it holds.
    """

    rate: int
    chunks: Iterator[bytes] = field(repr=False)


class Engine(Protocol):
    """Speaks one sentence at a time; many threads may use it at once.

    ``speak`` raises ``AudioError`` when the engine cannot speak, with a sentence that says what to install; the same
    error may come out of the chunks.
    """

    def speak(self, text: str, manner: VoiceOptions) -> Speech: ...


class Auto:
    """flite for English where it is installed, for its human sound; espeak-ng for everything else, and for a text with
    letters that flite would pass over.

    A voice ``flite:NAME`` or ``espeak:NAME`` asks for one engine by name.
    """

    def speak(self, text: str, manner: VoiceOptions) -> Speech:
        return _chosen(text, manner).speak(text, manner)


def _chosen(text: str, manner: VoiceOptions) -> Engine:
    from agent.server.tts.espeak import Espeak
    from agent.server.tts.flite import Flite, passes_over

    if manner.voice.startswith("flite:"):
        return Flite()
    if manner.voice.startswith("espeak:"):
        return Espeak()
    flite = manner.code == "en" and shutil.which("flite") is not None
    if flite and not passes_over(text):
        return Flite()
    if shutil.which("espeak-ng"):
        return Espeak()
    if flite:
        return Flite()  # what it can of it
    raise AudioError("there is no voice on this machine: install flite (English) or espeak-ng (any language)")


def find(name: str) -> Engine:
    """The engine called ``name``, one of ``ENGINES``."""
    from agent.server.tts.espeak import Espeak
    from agent.server.tts.flite import Flite
    from agent.server.tts.tone import Tone

    kinds: dict[str, type[Engine]] = {"auto": Auto, "flite": Flite, "espeak": Espeak, "tone": Tone}
    return kinds[name]()

"""Speech engine hibari: English with a neural voice; the package contains its model."""

from __future__ import annotations

import logging
import os
import sys
import threading
from array import array
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from agent.errors import AudioError
from agent.server.tts import sentences
from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions
from agent.server.tts.flite import SILENCE_LEVEL, transliterate, without_lead
from agent.server.work_slots import WorkSlots
from agent.system.optional_parts import install_command

log = logging.getLogger(__name__)

NATURAL_VOICE = "heart"
"""The voice that the package contains. The library downloads its other voices, so this engine does not use them."""
_RATE = 24000
_MIN_MEMORY_BYTES = 900 << 20
"""Minimum memory. A machine with 1 GB reports less than 1 GB. The engine takes 240 MB (measured)."""
_LOAD_SECONDS = 3.0
"""Maximum wait for the model. Loading takes 0.5 s on an idle x86 core, including the imports."""
_LEAD_SECONDS, _CLAUSE_TAIL_SECONDS = 0.05, 0.15
"""Silence that is kept at the beginning of each clause, and at the end of each clause except the last. The model adds
0.3 s at the beginning and 0.45 s at the end."""


def is_installed() -> bool:
    """Return whether the package of the engine is installed."""
    return find_spec("hibari") is not None


def install_hint() -> str:
    """Return a sentence with the command that installs the package."""
    return f"Install it (hibari-tts 0.2.1, for 64-bit processors): {install_command('natural-voice')}"


def is_suitable() -> bool:
    """Return whether the engine is installed on a 64-bit machine with at least 1 GB of memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sys.maxsize > 1 << 32 and memory >= _MIN_MEMORY_BYTES and is_installed()


class HibariEngine:
    """Speaks with the neural voice ``heart``. Thread-safe.

    A separate thread loads the model once. All clients share the model and use it one at a time. A long sentence is
    spoken clause by clause, so that its first audio arrives early.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._failure = ""
        self._slots = WorkSlots(1)
        # If a thread with this suffix is alive at shutdown, main.py ends the process with os._exit().
        self._loader = threading.Thread(target=self._load, name="hibari-model", daemon=True)
        self._loader.start()

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        self._loader.join(_LOAD_SECONDS)
        if self._model is None:
            raise AudioError(self._failure or "the natural voice is still loading: retry in a moment")
        speed = min(max(options.speed, 0.5), 2.0)
        clauses = sentences.clauses(transliterate(text))
        audio = self._synthesize(clauses.pop(0), speed, is_last=not clauses)
        return SynthesizedAudio(_RATE, self._continue(audio, clauses, speed))

    def _continue(self, audio: bytes, clauses: list[str], speed: float) -> Iterator[bytes]:
        yield audio
        while clauses:
            yield self._synthesize(clauses.pop(0), speed, is_last=not clauses)

    def _synthesize(self, text: str, speed: float, *, is_last: bool) -> bytes:
        try:
            with self._slots:
                audio = self._model(text, speed=speed)
        except Exception as error:  # noqa: BLE001 - the library documents no exceptions
            raise AudioError(f"the natural voice failed: {error!r}. Set server.speech to flite or espeak") from error
        return _trim((audio.clip(-1.0, 1.0) * 32767.0).astype("<i2").tobytes(), keeps_tail=is_last)

    def _load(self) -> None:
        try:
            from hibari import Hibari

            model = Hibari(voice=NATURAL_VOICE)
            model("Hello.")  # loads the dictionary, half of the loading time
            self._model = model
        except Exception as error:  # noqa: BLE001 - as above; also onnxruntime on an unsuitable processor
            self._failure = f"the natural voice cannot be loaded ({error!r}). {install_hint()}"
            log.warning("speech server: %s", self._failure)


def create() -> TtsEngine:
    """Create the engine; the entry point of the registry."""
    return HibariEngine()


def _trim(pcm: bytes, *, keeps_tail: bool) -> bytes:
    """Return mono s16le at 24 kHz with the silence at its beginning shortened to at most 0.05 s.

    Unless ``keeps_tail``, the silence at its end is shortened to at most 0.15 s.
    """
    if not keeps_tail:
        samples = array("h", pcm)
        end = len(samples)
        last = next((at for at in range(end - 1, -1, -1) if abs(samples[at]) > SILENCE_LEVEL), end)
        pcm = samples[: last + round(_CLAUSE_TAIL_SECONDS * _RATE)].tobytes()
    return without_lead(pcm, _RATE, _LEAD_SECONDS)

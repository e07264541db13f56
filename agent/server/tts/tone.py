"""Speech engine that plays one tone per word, so that tests can predict every sample."""

from __future__ import annotations

import array
import math
import zlib
from collections.abc import Iterator

from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions

WORD_SECONDS = 0.2
AMPLITUDE = 8000
_MIN_HZ, _STEP_HZ, _STEPS = 300, 25, 100
_PUNCTUATION = ".,;:!?\"'()[]<>-…"


def frequency(word: str) -> int:
    """Return the frequency of the tone of ``word`` in Hz: ``300 + 25 * (crc32(w) % 100)``, that is 300 to 2775.

    ``w`` is the word in UTF-8, case-folded and without leading and trailing punctuation. A word that consists of
    punctuation only keeps its punctuation. The CRC is that of zlib.
    """
    bare = word.strip(_PUNCTUATION) or word
    return _MIN_HZ + _STEP_HZ * (zlib.crc32(bare.casefold().encode("utf-8", "replace")) % _STEPS)


def word_pcm(word: str, rate: int) -> bytes:
    """Return the tone of one word as mono s16le at ``rate`` Hz.

    Sample ``i`` is ``round(8000 * sin(2 * pi * frequency * i / rate))`` for ``i`` from 0 to ``round(0.2 * rate) - 1``.
    Every tone has a whole number of cycles, so that consecutive words join at zero, without a click.
    """
    step = 2 * math.pi * frequency(word) / rate
    samples = array.array("h", (round(AMPLITUDE * math.sin(step * i)) for i in range(round(WORD_SECONDS * rate))))
    return samples.tobytes()


def pcm(text: str, rate: int) -> bytes:
    """Return the tones of all words of ``text``, split at white space, as mono s16le at ``rate`` Hz.

    ``pcm(a + " " + b, rate) == pcm(a, rate) + pcm(b, rate)``: splitting a text between words does not change the audio.
    """
    return b"".join(word_pcm(word, rate) for word in text.split())


class ToneEngine:
    """Plays one tone per word; ignores voice, language and speed. Thread-safe."""

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        return SynthesizedAudio(options.rate, self._words(text, options.rate))

    def _words(self, text: str, rate: int) -> Iterator[bytes]:
        for word in text.split():
            yield word_pcm(word, rate)


def create() -> TtsEngine:
    """Create the engine; the entry point of the registry."""
    return ToneEngine()

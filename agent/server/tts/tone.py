"""The tone engine: one tone for every word, so that a test can say sample by sample what must arrive."""

from __future__ import annotations

import array
import math
import zlib
from collections.abc import Iterator

from agent.server.tts.engine import Speech, VoiceOptions

WORD_SECONDS = 0.2
AMPLITUDE = 8000
_LOWEST_HZ, _STEP_HZ, _STEPS = 300, 25, 100
_PUNCTUATION = ".,;:!?\"'()[]<>-…"


def frequency(word: str) -> int:
    """The tone of ``word`` in Hz: ``300 + 25 * (crc32(w) % 100)``, 300 to 2775.

    ``w`` is the word case-folded, without the punctuation at its ends (the word as it is, where nothing else is left),
    in UTF-8. The CRC is that of zlib.
    """
    bare = word.strip(_PUNCTUATION) or word
    return _LOWEST_HZ + _STEP_HZ * (zlib.crc32(bare.casefold().encode("utf-8", "replace")) % _STEPS)


def word_pcm(word: str, rate: int) -> bytes:
    """The tone of one word, mono s16le: sample ``i`` is ``round(8000 * sin(2 * pi * frequency * i / rate))`` for ``i``
    from 0 to ``round(0.2 * rate) - 1``. Every tone is a whole number of cycles, so words meet at zero, without a click.
    """
    turn = 2 * math.pi * frequency(word) / rate
    samples = array.array("h", (round(AMPLITUDE * math.sin(turn * i)) for i in range(round(WORD_SECONDS * rate))))
    return samples.tobytes()


def pcm(text: str, rate: int) -> bytes:
    """All of ``text`` as the tone engine speaks it at ``rate`` Hz: its words, split at white space, in a row.

    ``pcm(a + " " + b, rate) == pcm(a, rate) + pcm(b, rate)``: how a text is cut into pieces cannot be heard.
    """
    return b"".join(word_pcm(word, rate) for word in text.split())


class Tone:
    """Speaks with one tone for every word. Voice, language and speed change nothing."""

    def speak(self, text: str, manner: VoiceOptions) -> Speech:
        return Speech(manner.rate, self._words(text, manner.rate))

    def _words(self, text: str, rate: int) -> Iterator[bytes]:
        for word in text.split():
            yield word_pcm(word, rate)

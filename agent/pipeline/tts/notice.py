"""Provides the sound for an outage of all speech services: a tone, and a sentence that was synthesized earlier."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

from agent.audio.format import Format
from agent.pipeline.tts.phrase_file import PhraseKey, decode

TONE_FORMAT = Format(22050)
TONES = ((659.3, 0.18), (523.3, 0.30))
"""Frequency in Hz and length in seconds of each tone: a falling third, different from the chimes of announcements."""
FADE_SECONDS = 0.02
PAUSE_SECONDS = 0.15
PEAK = 9000

SENTENCES = {
    "de": "Die Sprachausgabe ist nicht erreichbar.",
    "en": "The speech service cannot be reached.",
    "es": "No hay conexión con el servicio de voz.",
    "fr": "Le service vocal est injoignable.",
    "it": "Il servizio vocale non è raggiungibile.",
    "nl": "De spraakdienst is niet bereikbaar.",
    "pl": "Usługa mowy jest niedostępna.",
    "pt": "O serviço de voz não está acessível.",
    "sv": "Taltjänsten kan inte nås.",
}
"""The sentence by language."""


def notice_audio(path: Path, key: PhraseKey) -> tuple[Format, bytes]:
    """Return the tone and the prepared sentence; only the tone if the file is missing, damaged or of another key.

    Args:
        path: The file of the phrase with the sentence.
        key: The key that the phrase must have.

    Returns:
        The format, and the audio (s16le) in this format.
    """
    try:
        phrase = decode(path.read_bytes())
    except (OSError, ValueError):
        phrase = None
    if phrase is None or phrase.key != key:
        return TONE_FORMAT, tone(TONE_FORMAT)
    pause = bytes(phrase.format.bytes_of(PAUSE_SECONDS))
    return phrase.format, tone(phrase.format) + pause + phrase.pcm


def tone(format: Format) -> bytes:
    """Return the tone as s16le in ``format``."""
    samples = array("h")
    for frequency, seconds in TONES:
        count = round(seconds * format.rate)
        fade = round(FADE_SECONDS * format.rate)
        step = 2 * math.pi * frequency / format.rate
        for at in range(count):
            level = min(1.0, at / fade, (count - at) / fade)
            samples.extend([round(PEAK * level * math.sin(step * at))] * format.channels)
    return samples.tobytes()

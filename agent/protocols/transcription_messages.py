"""The two JSON messages of the transcription protocol, read and written: the partial, and the final with its words."""

from __future__ import annotations

import json

from agent.protocols.events import Transcript, Word
from agent.protocols.excerpt import clean


def read_text(value: object) -> str | None:
    """The text without the white space around it; ``None`` where it is no text."""
    return clean(value).strip() if isinstance(value, str) else None


def read_words(result: object) -> tuple[tuple[Word, ...], bool]:
    """The words that can be read, and whether something was there that cannot. No ``result`` at all is no words."""
    if result is None:
        return (), False
    if not isinstance(result, list):
        return (), True
    words: list[Word] = []
    for said in result:
        word = _word(said)
        if word is not None:
            words.append(word)
    return tuple(words), len(words) < len(result)


def write_transcript(transcript: Transcript) -> str:
    """The message as the server writes it: indented, ASCII only, the text with a space before it."""
    text = transcript.text
    if text and not text.startswith(" "):
        text = " " + text
    told: dict[str, object] = {"partial": text}
    if transcript.final:
        result = [
            {"conf": word.confidence, "start": word.start_seconds, "end": word.end_seconds, "word": word.word}
            for word in transcript.words
        ]
        told = {"result": result, "text": text}
    return json.dumps(told, indent=2)


def _word(said: object) -> Word | None:
    if not isinstance(said, dict):
        return None
    word = read_text(said.get("word"))
    start, end, confidence = (_number(said.get(name, default)) for name, default in _NUMBERS)
    if word is None or start is None or end is None or confidence is None:
        return None
    return Word(word, start, end, confidence)


_NUMBERS = (("start", None), ("end", None), ("conf", 1.0))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e9 else None

"""Finds the words that stop the device while it speaks."""

from __future__ import annotations

from collections.abc import Iterable

AUTO = "auto"

DEFAULT_WORDS = {
    "en": ("stop", "be quiet", "shut up"),
    "de": ("stopp", "halt", "sei still"),
    "fr": ("stop", "arrête", "tais-toi"),
    "es": ("para", "basta", "cállate"),
    "it": ("stop", "basta", "zitto"),
    "pt": ("para", "chega", "silêncio"),
    "nl": ("stop", "hou op", "wees stil"),
    "hi": ("रुको", "बस", "चुप"),
}
"""The default stop words and phrases, by language (ISO 639-1)."""


def stop_words(words: Iterable[str], language: str) -> tuple[str, ...]:
    """Return the stop words of a configuration, without repetitions.

    Args:
        words: The value of ``wake.stop``. The word ``auto`` is replaced by the default words of the language.
        language: An ISO 639-1 code. For an unknown code and for ``auto``, the default words of all languages are used.
    """
    defaults = DEFAULT_WORDS.get(language, tuple(word for each in DEFAULT_WORDS.values() for word in each))
    return tuple(dict.fromkeys(each for word in words for each in (defaults if word == AUTO else (word,))))


class StopWords:
    """Finds the texts that consist of stop words only. Immutable.

    Args:
        words: The stop words or phrases.
    """

    def __init__(self, words: Iterable[str]) -> None:
        # The longest word first, because it may contain a shorter one: "stopp" and "stop".
        self._words = sorted({_normal(word) for word in words} - {""}, key=len, reverse=True)

    def find(self, text: str) -> str | None:
        """Return the first stop word if the text has no other words ("Stop, be quiet!"); otherwise ``None``."""
        rest = normal = _normal(text)
        found = []
        for word in self._words:
            if word in rest:
                found.append(word)
                rest = rest.replace(word, "\0")  # no space: the words around it must not become one phrase
        return min(found, key=normal.find) if found and not rest.strip("\0 ") else None


def _normal(text: str) -> str:
    text = text.casefold().replace("’", "'")
    return " ".join("".join(" " if character in ".,;:!?।¡¿…-" else character for character in text).split())

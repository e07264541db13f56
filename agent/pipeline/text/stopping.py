"""The words that stop the device while it speaks."""

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
"""The stop words by language."""


def stop_words(words: Iterable[str], language: str) -> tuple[str, ...]:
    """Return the stop words of a configuration, without repetitions.

    Args:
        words: ``wake.stop``. ``auto`` stands for the words of the language.
        language: A code of two letters; with one that is unknown, or ``auto``, ``auto`` stands for the words of all.
    """
    defaults = DEFAULT_WORDS.get(language, tuple(word for each in DEFAULT_WORDS.values() for word in each))
    return tuple(dict.fromkeys(each for word in words for each in (defaults if word == AUTO else (word,))))


class StopWords:
    """Finds the texts that consist of stop words only. Immutable.

    Args:
        words: The words or phrases.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(_normal(word) for word in words) - {""}

    def find(self, text: str) -> str | None:
        """Return the stop word that is the whole text, also if it is repeated ("Stop, stop!")."""
        normal = _normal(text)
        for word in self._words if normal else ():
            if not normal.replace(word, "").strip():
                return word
        return None


def _normal(text: str) -> str:
    text = text.casefold().replace("’", "'")
    return " ".join("".join(" " if character in ".,;:!?।¡¿…-" else character for character in text).split())

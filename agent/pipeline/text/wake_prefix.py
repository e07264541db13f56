"""Finds a wake word at the start of a transcript."""

from __future__ import annotations

import re
from collections.abc import Iterable


class WakePrefix:
    """Finds a wake word at the start of a transcript. Immutable.

    The user may say the wake word also while none is needed.

    Args:
        words: The wake words as in the configuration, such as ``hey_jarvis``.
    """

    def __init__(self, words: Iterable[str]) -> None:
        parts = {word: re.findall(r"[^\W_]+", word) for word in words}
        self._patterns = {
            word: re.compile(rf"\W*{'[^0-9a-z]+'.join(map(re.escape, each))}(?!\w)\W*", re.IGNORECASE)
            for word, each in parts.items()
            if each
        }

    def split(self, text: str) -> tuple[str, str]:
        """Return the wake word at the start of the text, and the rest; without one, an empty word and the text."""
        for word, pattern in self._patterns.items():
            if match := pattern.match(text):
                return word, text[match.end() :]
        return "", text

"""Splits text into sentences for synthesis, so that the first audio arrives early and no split is audible."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_CHARACTERS = 400
# The end of a sentence, with the white space after it. A period after a word of up to three characters does not count,
# because it may belong to an abbreviation. A mark before a lower-case character does not count either, because no
# sentence begins with such a character. A missed end has no cost, because the engine itself pauses there. A wrong end
# causes a pause within the sentence. The number of marks is limited so that the search takes linear time: in a longer
# run of marks, the match begins at a later mark.
_END = re.compile(
    r"""(?:(?<!\b\w)(?<!\b\w\w)(?<!\b\w\w\w)\.|[!?…。！？:;])[.!?…。！？:;]{0,16}+["')\]»”]*+\s++(?![a-zß-öø-ÿа-я])|\n+"""
)
_OVERLAP_CHARACTERS = 400
"""Length of old text that is searched again when more text arrives: the new text may complete the end of a sentence."""
_MIN_SPLIT_CHARACTERS = 60
_MIN_FIRST_CHARACTERS, _MIN_CLAUSE_CHARACTERS = 8, 60
_CLAUSE = re.compile(r"(?<=[,;:)]) +| +(?=[-–—] )| +(?=(?:and|but|or|because|while|when|if) )")


def split(text: str, max_characters: int = MAX_CHARACTERS) -> Iterator[str]:
    """Yield the sentences of ``text``, stripped, each at most ``max_characters`` characters long.

    A longer sentence is split after a comma; without a comma, between words; and a longer word at the limit. Only white
    space is lost.
    """
    at = 0
    for end in _END.finditer(text):
        yield from _limit_length(text[at : end.end()], max_characters)
        at = end.end()
    yield from _limit_length(text[at:], max_characters)


def clauses(sentence: str) -> list[str]:
    """Split a long sentence at its commas, dashes and conjunctions, for an engine that returns a text's audio at once.

    The first clause is short, so that its audio arrives early. The others are long, because each cut changes the melody
    of the sentence.
    """
    pieces: list[str] = []
    start = 0
    if len(sentence) >= _MIN_SPLIT_CHARACTERS:
        for cut in _CLAUSE.finditer(sentence):
            minimum = _MIN_CLAUSE_CHARACTERS if pieces else _MIN_FIRST_CHARACTERS
            if cut.start() - start >= minimum and len(sentence) - cut.end() >= _MIN_FIRST_CHARACTERS:
                pieces.append(sentence[start : cut.start()])
                start = cut.end()
    return [*pieces, sentence[start:]]


def complete_length(text: str, searched: int = 0) -> int:
    """Return how many characters of ``text`` form complete sentences, including the white space after them.

    Args:
        text: The text so far.
        searched: Length of the beginning of ``text`` that is known to contain no complete sentence. Without this value,
            searching a long text again for each of many short messages would take quadratic time.
    """
    last = 0
    for end in _END.finditer(text, max(0, searched - _OVERLAP_CHARACTERS)):
        last = end.end()
    return last


def _limit_length(sentence: str, max_characters: int) -> Iterator[str]:
    rest = sentence.strip()
    while len(rest) > max_characters:
        cut = max(rest.rfind(", ", 0, max_characters) + 1, 0) or rest.rfind(" ", 0, max_characters)
        cut = cut if cut > 0 else max_characters
        yield rest[:cut].strip()
        rest = rest[cut:].strip()
    if rest:
        yield rest

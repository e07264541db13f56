"""Where a text is cut so that its first sound comes early and no cut can be heard."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 400
_END = re.compile(r"[.!?…。！？:;]+[\"')\]»”]*\s+|\n+")


def split(text: str, longest: int = LONGEST) -> Iterator[str]:
    """The sentences of ``text``, without white space at their ends; none is longer than ``longest`` characters.

    A sentence that is longer is cut after a comma or, failing that, between words; a single word beyond any measure is
    cut anywhere. Nothing but white space is lost.
    """
    at = 0
    for end in _END.finditer(text):
        yield from _short(text[at : end.end()], longest)
        at = end.end()
    yield from _short(text[at:], longest)


def complete(text: str) -> int:
    """How many characters of ``text`` are whole sentences, with the white space after them; 0 where there is none."""
    last = 0
    for end in _END.finditer(text):
        last = end.end()
    return last


def _short(sentence: str, longest: int) -> Iterator[str]:
    rest = sentence.strip()
    while len(rest) > longest:
        cut = max(rest.rfind(", ", 0, longest) + 1, 0) or rest.rfind(" ", 0, longest)
        cut = cut if cut > 0 else longest
        yield rest[:cut].strip()
        rest = rest[cut:].strip()
    if rest:
        yield rest

"""Text on its way to a speech service, cut into passages: what is spoken in one breath of the protocol."""

from __future__ import annotations

import re

LONGEST = 300
# A line without an end mark is a heading or an item of a list; one as long as this was probably only wrapped.
WRAPPED = 60

# One more character is always waited for: "3." may become "3.5", and a closing quote belongs to the sentence.
# The look-behind makes a run of marks one candidate, so that a flood of dots is looked at once.
_END = re.compile(
    r"""(?P<latin>(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s))"""
    r"""|(?P<own>[。！？｡।॥۔؟]++["'”’」』）]*+(?=.))"""
    r"""|(?P<blank>\n[^\S\n]*+\n)|(?P<line>\n)""",
    re.DOTALL,
)
_OPENING = "\"'“‘«([„"
_ABBREVIATIONS = """
    mr mrs ms dr prof st gen col capt lt sgt rev jr sr vs cf ca approx fig vol al dept e.g i.e
    z.b d.h u.a o.ä bzw nr hr fr str evtl ggf inkl sog jan feb aug sept oct nov dec
"""
_NEVER_LAST = frozenset(_ABBREVIATIONS.split())
_SOMETIMES_LAST = frozenset({"etc", "a.m", "p.m", "u.s", "u.k", "inc", "ltd", "co", "corp", "usw"})
_PAUSES = re.compile(r"[,;:–—](?=\s)|[，、；：]")


class Sentences:
    """Whole sentences out of pieces of text, wherever the pieces were cut.

    ``feed`` gives the sentences a piece completes, ``rest`` what is left when no more comes. Joined by spaces they are
    the text, white space aside. Abbreviations, initials, decimals and the numbers of a list end no sentence; a line
    break does, unless the line was long enough to have been wrapped. A sentence longer than ``LONGEST`` characters is
    cut at a pause, else at a space; no more than that is ever held back.
    """

    def __init__(self) -> None:
        self._held = ""
        self._looked = 0

    def feed(self, piece: str) -> list[str]:
        text = self._held + piece
        found: list[str] = []
        start, look = 0, self._looked
        while True:
            start = _after_space(text, start)
            look = max(look, start)
            limit = start + LONGEST
            # One character past the limit, because an end is only seen by what follows it.
            mark = _END.search(text, look, limit + 1)
            if mark is not None:
                verdict = self._ends(text, start, mark)
                if verdict is False:
                    look = mark.end()
                    continue
                if verdict is None and len(text) <= limit:
                    break
                cut = mark.end()
            elif len(text) > limit:
                cut = self._pause(text, start)
            else:
                break
            found.append(" ".join(text[start:cut].split()))
            start = cut
        self._held, self._looked = text[start:], look - start
        return found

    def rest(self) -> str:
        """What has not been given yet; empty where nothing is left. The next piece begins anew."""
        held, self._held, self._looked = " ".join(self._held.split()), "", 0
        return held

    def _ends(self, text: str, start: int, mark: re.Match[str]) -> bool | None:
        """Whether a sentence ends at the mark; ``None`` where only the next word can tell."""
        before = text[start : mark.start()]
        if not any(letter.isalnum() for letter in before):
            return False  # nothing to say yet: it goes with what follows
        if mark["own"] or mark["blank"]:
            return True
        if mark["line"]:
            return len(before) - before.rfind("\n") - 1 < WRAPPED
        sign = mark["latin"].rstrip("\"'”’»)]")
        word = before.rsplit(maxsplit=1)[-1].lstrip(_OPENING)
        if sign == ".":
            alone = len(word) == len(before.lstrip(_OPENING))
            if word.lower() in _NEVER_LAST or (len(word) == 1 and word.isupper()) or (alone and word.isdigit()):
                return False
            if word.lower() not in _SOMETIMES_LAST:
                return True
        elif not sign.startswith(("..", "…")):
            return True
        following = _after_space(text, mark.end())
        if following == len(text):
            return None
        return "\n" in text[mark.end() : following] or not text[following].islower()

    def _pause(self, text: str, start: int) -> int:
        """Where a sentence that is too long is cut."""
        window = text[start : start + LONGEST]
        pauses = [pause.end() for pause in _PAUSES.finditer(window) if pause.end() * 3 > LONGEST]
        if pauses:
            return start + pauses[-1]
        space = max(window.rfind(" "), window.rfind("\n"), window.rfind("\t"))
        return start + (space if space > 0 else LONGEST)


def _after_space(text: str, start: int) -> int:
    """Where the white space that begins at ``start`` has ended."""
    while start < len(text) and text[start].isspace():
        start += 1
    return start


LONGEST_PASSAGE = 800
"""Characters. A text that is there as a whole keeps its melody over several sentences, but not without end: the first
sound waits for the first passage."""


class Passages:
    """Pieces of text in, passages out. A text that comes piece by piece gives a passage for every sentence as soon as
    that is complete; a text given as a whole gives passages of whole sentences up to ``LONGEST_PASSAGE`` characters."""

    def __init__(self) -> None:
        self._sentences = Sentences()

    def feed(self, piece: str) -> list[str]:
        return [sentence for sentence in self._sentences.feed(piece) if sentence.strip()]

    def rest(self) -> list[str]:
        """What is left when the text is complete."""
        rest = self._sentences.rest()
        return [rest] if rest.strip() else []

    @classmethod
    def of(cls, text: str) -> list[str]:
        """The passages of a text that is there as a whole."""
        cutter = cls()
        passages: list[str] = []
        for sentence in [*cutter.feed(text), *cutter.rest()]:
            if passages and len(passages[-1]) + 1 + len(sentence) <= LONGEST_PASSAGE:
                passages[-1] = f"{passages[-1].rstrip()} {sentence}"
            else:
                passages.append(sentence)
        return passages

"""Splits text into sentences, and into the passages that a speech service speaks at a time."""

from __future__ import annotations

import re

MAX_SENTENCE_CHARACTERS = 300
MAX_PASSAGE_CHARACTERS = 800
"""A complete text keeps its intonation across sentences. The length is limited because the first audio has to wait for
the first passage."""

MIN_WRAPPED_CHARACTERS = 60
"""A shorter line without an end mark is a heading or a list item; a longer line was probably wrapped."""

# An end mark counts only when the next character is known: "3." may become "3.5", and a closing quote belongs to the
# sentence. The look-behind makes a run of marks one candidate, so that a run of dots is examined once.
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
_NEVER_FINAL = frozenset(_ABBREVIATIONS.split())
_SOMETIMES_FINAL = frozenset({"etc", "a.m", "p.m", "u.s", "u.k", "inc", "ltd", "co", "corp", "usw"})
_PAUSES = re.compile(r"[,;:–—](?=\s)|[，、；：]")


class SentenceSplitter:
    """Assembles pieces of text into complete sentences, independent of where the pieces were cut.

    Joined by spaces the sentences are the text, apart from white space. Abbreviations, initials, decimals and list
    numbers do not end a sentence; a line break does, unless the line is long enough to have been wrapped. A sentence
    longer than ``MAX_SENTENCE_CHARACTERS`` is cut at a pause, otherwise at a space; no more than that is buffered.
    Not thread-safe; owned by the thread that feeds it.
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._scanned = 0  # characters of the buffer that contain no end of a sentence

    def feed(self, piece: str) -> list[str]:
        """Append text; return the sentences that it completes."""
        text = self._buffer + piece
        sentences: list[str] = []
        start, position = 0, self._scanned
        while True:
            start = _skip_space(text, start)
            position = max(position, start)
            limit = start + MAX_SENTENCE_CHARACTERS
            # One character past the limit, because only the next character confirms an end.
            match = _END.search(text, position, limit + 1)
            if match is not None:
                is_end = self._is_sentence_end(text, start, match)
                if is_end is False:
                    position = match.end()
                    continue
                if is_end is None and len(text) <= limit:
                    break
                end = match.end()
            elif len(text) > limit:
                end = self._pause_position(text, start)
            else:
                break
            sentences.append(" ".join(text[start:end].split()))
            start = end
        self._buffer, self._scanned = text[start:], position - start
        return sentences

    def flush(self) -> str:
        """Return the rest of the text, possibly empty, and start with a new text."""
        rest, self._buffer, self._scanned = " ".join(self._buffer.split()), "", 0
        return rest

    def _is_sentence_end(self, text: str, start: int, match: re.Match[str]) -> bool | None:
        """Return whether the match ends a sentence; ``None`` if that depends on text that is still missing."""
        before = text[start : match.start()]
        if not any(character.isalnum() for character in before):
            return False  # no text to speak yet: the mark belongs to the following text
        if match["own"] or match["blank"]:
            return True
        if match["line"]:
            return len(before) - before.rfind("\n") - 1 < MIN_WRAPPED_CHARACTERS
        mark = match["latin"].rstrip("\"'”’»)]")
        word = before.rsplit(maxsplit=1)[-1].lstrip(_OPENING)
        if mark == ".":
            is_alone = len(word) == len(before.lstrip(_OPENING))
            if word.lower() in _NEVER_FINAL or (len(word) == 1 and word.isupper()) or (is_alone and word.isdigit()):
                return False
            if word.lower() not in _SOMETIMES_FINAL:
                return True
        elif not mark.startswith(("..", "…")):
            return True
        following = _skip_space(text, match.end())
        if following == len(text):
            return None
        return "\n" in text[match.end() : following] or not text[following].islower()

    def _pause_position(self, text: str, start: int) -> int:
        """Return the position at which to cut a sentence that is too long."""
        window = text[start : start + MAX_SENTENCE_CHARACTERS]
        pauses = [pause.end() for pause in _PAUSES.finditer(window) if pause.end() * 3 > MAX_SENTENCE_CHARACTERS]
        if pauses:
            return start + pauses[-1]
        space = max(window.rfind(" "), window.rfind("\n"), window.rfind("\t"))
        return start + (space if space > 0 else MAX_SENTENCE_CHARACTERS)


def _skip_space(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


class PassageSplitter:
    """Splits text that arrives in pieces into passages: each sentence is a passage as soon as it is complete.

    Not thread-safe; owned by the thread that feeds it.
    """

    def __init__(self) -> None:
        self._sentences = SentenceSplitter()

    def feed(self, piece: str) -> list[str]:
        """Append text; return the passages that it completes."""
        return [sentence for sentence in self._sentences.feed(piece) if sentence.strip()]

    def flush(self) -> list[str]:
        """Return the last passage, if there is one, and start with a new text."""
        rest = self._sentences.flush()
        return [rest] if rest.strip() else []


def split_passages(text: str) -> list[str]:
    """Split a complete text into passages of whole sentences, up to ``MAX_PASSAGE_CHARACTERS`` each."""
    splitter = PassageSplitter()
    passages: list[str] = []
    for sentence in [*splitter.feed(text), *splitter.flush()]:
        if passages and len(passages[-1]) + 1 + len(sentence) <= MAX_PASSAGE_CHARACTERS:
            passages[-1] = f"{passages[-1].rstrip()} {sentence}"
        else:
            passages.append(sentence)
    return passages

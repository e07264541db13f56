"""Neuphonic's mark for the end of a passage, ``<STOP>``: found in what comes, kept out of what is to be spoken."""

from __future__ import annotations

import re

STOP = "<STOP>"

_TOKEN = re.compile("<STOP>", re.IGNORECASE | re.ASCII)
_BEGUN = re.compile(r"<(S(T(OP?)?)?)?\Z", re.IGNORECASE | re.ASCII)
_LONGEST_BEGUN = len(STOP) - 1


class StopGuard:
    """Takes literal ``<STOP>`` out of a text that comes in pieces, and white space that would be all of a passage.

    What may become the mark with the next piece is held back: at most five characters.
    """

    def __init__(self) -> None:
        self._held = ""
        self._blank = ""
        self._blank_so_far = True

    def feed(self, text: str) -> str:
        """What of the passage can be sent now."""
        # A space and not nothing: "<ST<STOP>OP>" must not become the mark by taking one out.
        text = _TOKEN.sub(" ", self._held + text)
        keep = _begun(text)
        self._held = text[len(text) - keep :]
        return self._without_blank(text[: len(text) - keep])

    def finish(self) -> str:
        """The rest of the passage; the next piece begins a new one."""
        text, self._held = self._without_blank(self._held), ""
        self._blank, self._blank_so_far = "", True
        return text

    def _without_blank(self, text: str) -> str:
        if self._blank_so_far and not text.strip():
            self._blank += text
            return ""
        text, self._blank, self._blank_so_far = self._blank + text, "", False
        return text


class StopFinder:
    """Finds ``<STOP>`` in a text that comes in pieces, also where it is split over two of them."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The passages in ``text``: what stands before each mark, and at last what stands behind the last one."""
        *passages, rest = (self._held + text).split(STOP)
        keep = _begun(rest)
        if rest[len(rest) - keep :] != STOP[:keep]:
            keep = 0  # only the mark as it is written ends a passage
        self._held = rest[len(rest) - keep :]
        return [*passages, rest[: len(rest) - keep]]

    def finish(self) -> str:
        """What was held back because it might have become a mark."""
        held, self._held = self._held, ""
        return held


def _begun(text: str) -> int:
    """How many characters at the end of ``text`` are a beginning of the mark."""
    found = _BEGUN.search(text, max(0, len(text) - _LONGEST_BEGUN))
    return 0 if found is None else len(found.group())

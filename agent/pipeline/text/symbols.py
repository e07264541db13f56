"""Removes characters that no voice can pronounce: emojis, pictographs and invisible characters."""

from __future__ import annotations

import re

from agent.system.text import has_words

# From Unicode 16: emoji-data.txt, and the blocks of pictographs, arrows, frames and dingbats. Characters that a voice
# reads, such as the degree sign, the trademark sign and currency signs, are kept. Joiners are kept inside words of
# Persian and of the scripts of India, which need them.
_PICTURES = (
    r"\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u2500-\u27bf\u2900-\u297f\u2b00-\u2bff"
    r"\U0001f000-\U0001f0ff\U0001f170-\U0001faff\U000e0000-\U000e007f\ue000-\uf8ff"
)
_EMOJI = (
    rf"[ \t]*(?:[\u00a9\u00ae\u2122\u2139\u3030\u303d\u3297\u3299](?=\ufe0f)|[#*]\ufe0f?\u20e3|[{_PICTURES}])"
    rf"(?:[ \t\ufe00-\ufe0f\u20e3\u200d]|[{_PICTURES}])*"
)
_ENCLOSED_NUMBER = r"[\u2460-\u249b\u24ea-\u24ff\u2776-\u2793]"
_INVISIBLE = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\u20e3\ufeff\ufff0-\ufffd]"
    r"|(?<![\u0590-\u1fff])[\u200c\u200d]"
)


def speakable(text: str) -> str:
    """Return a sentence without the characters that no voice can pronounce; empty if it has no words."""
    if not (text.isascii() and text.isprintable()):
        text = re.sub(_ENCLOSED_NUMBER, _number, text)
        text = re.sub(_EMOJI, _gap, text)
        text = re.sub(_INVISIBLE, "", text)
    return " ".join(text.split()) if has_words(text) else ""


def _gap(match: re.Match[str]) -> str:
    """Return what replaces a picture: a space between words, nothing before a punctuation mark."""
    following = match.string[match.end() : match.end() + 1]
    return "" if following in ".,;:!?…)" and match.start() else " "


def _number(match: re.Match[str]) -> str:
    """Return the digits of an enclosed number (such as one in a circle), separated by spaces from adjacent words."""
    import unicodedata  # imported here because few texts contain such a number

    before, after = match.string[: match.start()][-1:], match.string[match.end() : match.end() + 1]
    digits = f"{unicodedata.numeric(match[0], 0):g}"
    return f"{' ' * before.isalnum()}{digits}{' ' * after.isalnum()}"

"""Text that somebody else wrote, made harmless for a log line or a terminal."""

from __future__ import annotations

import unicodedata

# Cc: control characters, ESC among them. Cf: invisible marks, the bidirectional ones among them. Cs: half characters.
# Zl, Zp: line ends that are not \n. Co: whatever a font makes of it.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co"})


def safe(text: str, limit: int | None = None) -> str:
    r"""``text`` as one line without a character that a log or a terminal would obey: each is written as an escape
    (``\x1b``, ``\u202e``). With ``limit`` it has at most about that many characters, and says how many were left out.
    """
    left_out = 0
    if limit is not None and len(text) > limit:
        left_out = len(text) - limit
        text = text[:limit]
    if not text.isprintable():
        text = "".join(_escape(letter) if unicodedata.category(letter) in _HARMFUL else letter for letter in text)
    return f"{text}... ({left_out} more characters)" if left_out else text


def _escape(letter: str) -> str:
    code = ord(letter)
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    if short is not None:
        return short
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

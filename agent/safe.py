"""Text that somebody else wrote, made harmless for a log line or a terminal."""

from __future__ import annotations


def safe(text: str, limit: int | None = None) -> str:
    r"""``text`` as one line without a character that a log or a terminal would obey or hide: control characters, line
    ends, invisible and bidirectional marks are written as escapes (``\x1b``, ``\u202e``). With ``limit`` no more than
    so many characters of ``text`` are shown, and how many were left out.
    """
    left_out = 0
    if limit is not None and len(text) > limit:
        left_out = len(text) - limit
        text = text[:limit]
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else _escape(letter) for letter in text)
    return f"{text}... ({left_out} more characters)" if left_out else text


def _escape(letter: str) -> str:
    code = ord(letter)
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    if short is not None:
        return short
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

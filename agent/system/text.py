"""Text that somebody else wrote, made harmless for a log line or a terminal."""

from __future__ import annotations

from agent.errors import UsageError


def escape(text: str, limit: int | None = None) -> str:
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


MAX_TEXT_CHARACTERS = 100_000
"""Characters: two hours of speech. More is a mistake, and is said to be one before anything is spoken."""


_BREAKS = "\r\v\f\x85"
_CONTROLS: dict[int, str | None] = {
    code: "\n" if chr(code) in _BREAKS else None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}


def validate_text(text: str) -> str:
    """The text without its control characters, if it can be spoken. Raises ``UsageError``."""
    text = remove_control_characters(text)
    if not text.strip():
        raise UsageError("there is nothing to say: the text is empty or only white space; give some words")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(
            f"the text has {len(text)} characters and at most {MAX_TEXT_CHARACTERS} are spoken at once: say it in parts"
        )
    return _encodable(text)


def validate_piece(text: str) -> str:
    """A piece of a text without its control characters, if it can be written as UTF-8. Raises ``UsageError``."""
    return _encodable(remove_control_characters(text))


def remove_control_characters(text: str) -> str:
    """The text or a piece of one without what no voice can say and some services stumble over: NUL, the escape codes
    of terminals and their like. Tabs and line ends stay, and every kind of line end becomes the one."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # Bytes of the command line that are no UTF-8 arrive as lone surrogates.
        raise UsageError(f"the text is not UTF-8 at character {error.start + 1}: convert it first") from error
    return text

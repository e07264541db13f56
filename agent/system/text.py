"""Makes untrusted text safe for log lines and terminals, and validates text before it is spoken."""

from __future__ import annotations

from agent.errors import UsageError

MAX_TEXT_CHARACTERS = 100_000
"""Maximum length of a spoken text, about two hours of speech. A longer text is an error of the caller."""

_LINE_BREAKS = "\r\v\f\x85"
_CONTROLS: dict[int, str | None] = {
    code: "\n" if chr(code) in _LINE_BREAKS else None
    for code in (*range(32), *range(127, 160))
    if chr(code) not in "\t\n"
}


def escape(text: str, limit: int | None = None) -> str:
    r"""Return ``text`` as one line of printable characters, safe for logs and terminals.

    Control characters, line breaks, invisible and bidirectional characters become escapes (``\x1b``, ``\u202e``).

    Args:
        text: Untrusted text.
        limit: Maximum number of characters of ``text`` to show; the number of omitted ones is appended.
    """
    omitted = 0
    if limit is not None and len(text) > limit:
        omitted = len(text) - limit
        text = text[:limit]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else _escape(character) for character in text)
    return f"{text}... ({omitted} more characters)" if omitted else text


def validate_text(text: str) -> str:
    """Return the text without control characters, with unified line breaks.

    Raises:
        UsageError: The text is empty, has nothing that a voice can pronounce, is too long, or is not valid Unicode.
    """
    text = _validate_encoding(remove_control_characters(text))
    if not text.strip():
        raise UsageError("there is nothing to say: the text is empty or only white space; give some words")
    if not has_words(text):
        raise UsageError("there is nothing to say: the text has only marks or symbols; give some words")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(
            f"the text has {len(text)} characters and at most {MAX_TEXT_CHARACTERS} are spoken at once: say it in parts"
        )
    return text


def has_words(text: str) -> bool:
    """Return whether a text contains something that a voice can pronounce: at least one alphanumeric character."""
    return any(character.isalnum() for character in text.replace("\u2139", ""))  # an emoji, but alphabetic in Unicode


def validate_piece(text: str) -> str:
    """Return a piece of a text without control characters. Raises ``UsageError`` if it is not valid Unicode."""
    return _validate_encoding(remove_control_characters(text))


def remove_control_characters(text: str) -> str:
    """Remove control characters (such as NUL and ESC), which some services reject. Keeps tabs; unifies line breaks."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def _escape(character: str) -> str:
    code = ord(character)
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if short is not None:
        return short
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _validate_encoding(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # Python decodes command line bytes that are not UTF-8 as lone surrogates.
        raise UsageError(f"the text is not UTF-8 at character {error.start + 1}: convert it first") from error
    return text

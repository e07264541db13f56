"""What may be said: the one check that every text from outside passes, by whichever way it came."""

from __future__ import annotations

from agent.errors import UsageError

LONGEST_TEXT = 100_000
"""Characters: two hours of speech. More is a mistake, and is said to be one before anything is spoken."""


def checked(text: str) -> str:
    """The text, if it can be spoken. Raises ``UsageError``."""
    if not text.strip():
        raise UsageError("there is nothing to say: the text is empty or only white space; give some words")
    if len(text) > LONGEST_TEXT:
        raise UsageError(
            f"the text has {len(text)} characters and at most {LONGEST_TEXT} are spoken at once: say it in parts"
        )
    return encodable(text)


def encodable(text: str) -> str:
    """The text or a piece of one, if it can be written as UTF-8. Raises ``UsageError``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # Bytes of the command line that are no UTF-8 arrive as lone surrogates.
        raise UsageError(f"the text is not UTF-8 at character {error.start + 1}: convert it first") from error
    return text

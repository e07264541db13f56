"""Errors in a configuration, which are collected while it is read and reported together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agent.errors import ConfigError
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

_MAX_KEY_CHARACTERS = 100


class ConfigIssue(NamedTuple):
    """One error in a configuration. Immutable; never contains a secret.

    Attributes:
        where: ``FILE:LINE``, or the name of an environment variable.
        key: The dotted name of the key; empty for the file as a whole.
        what: What is wrong and what was expected.
        suggestion: The word that was probably meant.
    """

    where: str
    key: str
    what: str
    suggestion: str | None = None

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        hint = f' (did you mean "{self.suggestion}"?)' if self.suggestion else ""
        return escape(f"{self.where}: {key}{self.what}{hint}")


def shorten_key(key: str) -> str:
    """Return a shortened key for an issue: a key can be nearly as long as the document, and occur in many issues."""
    return key if len(key) <= _MAX_KEY_CHARACTERS else f"{key[:_MAX_KEY_CHARACTERS]}..."


class ConfigIssues(ConfigError):
    """All errors in a configuration. The text has one line for each error; ``issues`` is for programs.

    ``usable`` is the configuration without the keys that have an error, for a command that needs only some of the keys;
    ``None`` if no configuration was loaded.
    """

    def __init__(self, issues: Iterable[ConfigIssue], usable: Any = None) -> None:
        self.issues = tuple(issues)
        self.usable = usable
        super().__init__("\n".join(str(issue) for issue in self.issues))


class Finding(NamedTuple):
    """A value that is valid by itself but cannot be used with the other values or on this machine. Immutable.

    Attributes:
        key: The dotted name of the key.
        what: What is wrong and what was expected.
        suggestion: The value that was probably meant.
        cause: Another key that leads to the finding. Its line is reported if ``key`` is not set.
    """

    key: str
    what: str
    suggestion: str | None = None
    cause: str | None = None

    def below(self, section: str) -> Finding:
        """Return the same finding with the prefix ``section`` for its keys."""
        cause = f"{section}.{self.cause}" if self.cause else None
        return Finding(f"{section}.{self.key}", self.what, self.suggestion, cause)


def suggestion(word: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that ``word`` was probably meant to be, or ``None``."""
    import difflib  # imported late: costs 3 ms, needed for an error only

    by_lower_case = {choice.lower(): choice for choice in allowed}
    if word.lower() in by_lower_case:
        return by_lower_case[word.lower()]
    close = difflib.get_close_matches(word[:64].lower().replace("-", "_"), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[close[0]] if close else None


def no_findings(settings: Any) -> Iterator[Finding]:
    """Yield nothing: the check of a section without rules between its keys."""
    yield from ()

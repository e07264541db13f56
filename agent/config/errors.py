"""Mistakes in a configuration: collected while it is read, told all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from agent.errors import ConfigError
from agent.system.text import escape


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """One mistake. ``where`` is ``FILE:LINE`` or the name of an environment variable, ``key`` the dotted name of the
    key (empty for the file as a whole), ``what`` says what is wrong and what was expected, ``nearest`` what may have
    been meant. It never holds a secret."""

    where: str
    key: str
    what: str
    suggestion: str | None = None

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        meant = f' (did you mean "{self.suggestion}"?)' if self.suggestion else ""
        return escape(f"{self.where}: {key}{self.what}{meant}")


class ConfigIssues(ConfigError):
    """Everything that is wrong with a configuration, one line each; ``mistakes`` holds them for programs."""

    def __init__(self, mistakes: Iterable[ConfigIssue]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class Finding(NamedTuple):
    """A value that is valid by itself and cannot be used with the other values or on this machine.

    ``key`` is the dotted key, ``what`` says what is wrong and what was expected. ``cause`` is another key; its line is
    reported where ``key`` has its default.
    """

    key: str
    what: str
    suggestion: str | None = None
    cause: str | None = None


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be, or ``None``."""
    import difflib  # only somebody who made a mistake pays for it

    choices = list(known)
    lowered = {choice.lower(): choice for choice in choices}
    if word.lower() in lowered:
        return lowered[word.lower()]
    close = difflib.get_close_matches(word[:64].lower().replace("-", "_"), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None

"""Adds the correction of a typical typing or copying mistake to the errors in its line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

from agent.config.errors import ConfigIssue
from agent.config.tree import NOT_YAML

_SPACES = re.compile("[\u00a0\u2000-\u200b\u202f\u205f\u3000\ufeff]")
_QUOTES = re.compile(r"(?<!\w)[“”„‟«»‘’‚‛‹›]|[“”„‟«»‘’‚‛‹›](?!\w)")  # not the apostrophe in a word
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'")
_FULL_WIDTH_COLON = re.compile(r"\s*(?:-\s+)?[A-Za-z_]\w*\s*：")
_EQUALS_SIGN = re.compile(r"\s*(?:-\s+)?([A-Za-z_]\w*)\s*=(?!=)")
_MISSING_SPACE_OF_ITEM = re.compile(r"^\s*-[A-Za-z{\[\"']")
_MISSING_SPACE_OF_COMMENT = re.compile(r":\s+[^\s\"'#]+#")
_MISSING_SPACE = re.compile(r"(?:^\s*(?:-\s+)?|[{,]\s*)([A-Za-z_]\w*):(?=[^\s/])")


def add_cures(issues: Iterable[ConfigIssue], data: bytes, file: str) -> list[ConfigIssue]:
    """Return the issues; if the line of an issue has a typical mistake, the text of the issue ends with the correction.

    Args:
        issues: The errors.
        data: The bytes of the file.
        file: The name of the file in ``ConfigIssue.where``.
    """
    lines = data.decode("utf-8", "replace").splitlines()
    cure = functools.cache(_cure)  # a line can have thousands of issues
    return [_with_cure(issue, lines, file, cure) for issue in issues]


def _with_cure(issue: ConfigIssue, lines: list[str], file: str, find_cure: Callable[[str], str | None]) -> ConfigIssue:
    name, _, number = issue.where.rpartition(":")
    if name != file or not number.isdigit():
        return issue
    for line in _candidates(issue, lines, int(number)):
        cure = find_cure(lines[line - 1])
        if cure is not None and not issue.key and issue.what.startswith(NOT_YAML):
            return ConfigIssue(f"{file}:{line}", "", f"{NOT_YAML}: {cure}", issue.suggestion)
        if cure is not None and not any(word in issue.what for word in ("typographic", "invisible")):
            return ConfigIssue(issue.where, issue.key, f"{issue.what}; {cure}", issue.suggestion)
    return issue


def _candidates(issue: ConfigIssue, lines: list[str], number: int) -> list[int]:
    """Return the line of the issue and, for a syntax error, the line above: PyYAML reports some of them late."""
    numbers = [number] if 0 < number <= len(lines) else []
    if not issue.key:
        above = [each for each in range(1, min(number, len(lines) + 1)) if _is_content(lines[each - 1])]
        numbers += above[-1:]
    return numbers


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _cure(line: str) -> str | None:
    line = _QUOTED.sub('""', line)
    line = re.sub(r"(^|\s)#.*", "", line)
    if space := _SPACES.search(line):
        cure = "remove it" if space[0] in "\u200b\ufeff" else "replace it with a space"
        return f"the line has the invisible character U+{ord(space[0]):04X}, {cure}"
    if quote := _QUOTES.search(line):
        return f"the line has the typographic quote {quote[0]}, replace it with a straight one"
    if _FULL_WIDTH_COLON.match(line):
        return "the line has the full-width colon U+FF1A, replace it with a colon and a space"
    if equals := _EQUALS_SIGN.match(line):
        return f"write {equals[1]}: with a colon for ="
    if missing := _MISSING_SPACE.search(line):
        return f"a space is missing after the colon of {missing[1]}:"
    if _MISSING_SPACE_OF_ITEM.match(line):
        return "a space is missing after the dash"
    if _MISSING_SPACE_OF_COMMENT.search(line):
        return "a comment needs a space before its #"
    return None

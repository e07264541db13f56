"""Reads the file of ``voice-agent phrases warm``: one text in each line, with placeholders and their values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from agent.errors import UsageError
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple
from agent.system.text import validate_text

MAX_TEXTS = 20_000
_VALUES = re.compile(r"\{(\w+)\}\s*=\s*(.*)")
_RANGE = re.compile(r"(\d{1,6})\.\.(\d{1,6})")
_PART = re.compile(r"\{\{|\}\}|\{(\w+)\}|[{}]")


@distinct
class ListedText(NamedTuple):
    """A text of the file, or a line that cannot be used. Immutable.

    ``line`` counts from 1. ``problem`` is empty for a text that can be spoken.
    """

    line: int
    text: str
    problem: str = ""


def read_phrase_list(lines: Iterable[str]) -> Iterator[ListedText]:
    """Yield the texts of all lines, with each combination of the values of their placeholders.

    ``# ...`` is a comment. ``{n} = 1..3, 7, last`` sets the values of the placeholder ``{n}`` for the following lines.
    Each other line is a text, in which ``{{`` and ``}}`` are braces. A line that cannot be used is yielded with its
    ``problem``.
    """
    values: dict[str, list[str]] = {}
    left = MAX_TEXTS
    for number, line in enumerate(lines, start=1):
        line = line.strip().lstrip("\ufeff")
        if not line or line.startswith("#"):
            continue
        try:
            if definition := _VALUES.fullmatch(line):
                values[definition[1]] = _read_values(definition[2], left)
                continue
            for text in _expand(line, values, left):
                left -= 1
                yield ListedText(number, validate_text(text))
        except UsageError as error:
            yield ListedText(number, line, str(error))


def _read_values(text: str, limit: int) -> list[str]:
    found: list[str] = []
    for word in (part.strip() for part in text.split(",")):
        if bounds := _RANGE.fullmatch(word):
            first, last = int(bounds[1]), int(bounds[2])
            if last < first or last - first >= limit:
                raise UsageError(f"the range {word} is empty or too long: the file may have at most {MAX_TEXTS} texts")
            found += map(str, range(first, last + 1))
        elif word:
            found.append(word)
    if not found:
        raise UsageError("the placeholder has no value: write for example {n} = 1..12, 14")
    return list(dict.fromkeys(found))


def _expand(line: str, values: dict[str, list[str]], limit: int) -> Iterator[str]:
    """Yield the texts of a line. Raises ``UsageError`` for an invalid placeholder and for too many texts."""
    names: dict[str, None] = {}
    for part in _PART.finditer(line):
        if part[0] in ("{", "}"):
            raise UsageError(f"{part[0]} belongs to no placeholder: write {part[0] * 2} for the character itself")
        if part[1] is not None:
            if part[1] not in values:
                raise UsageError(
                    f"the placeholder {{{part[1]}}} has no values: write them above, as in {{{part[1]}}} = 1..12"
                )
            names[part[1]] = None
    count = 1
    for name in names:
        count *= len(values[name])
    if count > limit:
        raise UsageError(f"the file has more than {MAX_TEXTS} texts: use fewer values, or several files")
    for choice in itertools.product(*(values[name] for name in names)):
        yield _replace(line, dict(zip(names, choice, strict=True)))


def _replace(line: str, values: dict[str, str]) -> str:
    return _PART.sub(lambda part: part[0][0] if part[1] is None else values[part[1]], line)

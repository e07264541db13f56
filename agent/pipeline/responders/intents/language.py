"""Defines the data of one language for spoken requests: the recognized sentences and the replies."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from agent.pipeline.responders.settings import INTENT_LANGUAGES
from agent.system.named_tuple import NamedTuple


class Language(NamedTuple):
    """One language. Immutable.

    Attributes:
        sentences: Templates by intent, in the syntax of hassil (``[optional] (one|other) {list:slot} <rule>``), in
            addition to those of home-assistant-intents.
        rules: Named parts of the templates, used as ``<rule>``.
        words: By list name: templates, and the value of the slot for each one.
        replies: Sentences by name, with fields in braces.
        units: The singular and the plural of hour, minute and second.
        last_separator: The text between the last two parts of a duration or a list.
        spoken_time: Formats a time of day.
        spoken_date: Formats a date with its weekday.
        examples: The requests in the reply to "what can I say".
        has_12_hours: Whether "seven" may also mean seven in the evening.
        spellings: Words as a transcription service may write them, and the form that the sentences expect.
        corrections: Incorrect parts of replies after their fields were filled in, and the correct form.
    """

    sentences: Mapping[str, tuple[str, ...]]
    rules: Mapping[str, str]
    words: Mapping[str, Mapping[str, int | str]]
    replies: Mapping[str, str]
    units: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]
    last_separator: str
    spoken_time: Callable[[datetime], str]
    spoken_date: Callable[[datetime], str]
    examples: str
    has_12_hours: bool = False
    spellings: Mapping[str, str] = MappingProxyType({})
    corrections: Mapping[str, str] = MappingProxyType({})

    def reply(self, reply: str, /, **fields: object) -> str:
        """Return a reply with its fields filled in."""
        text = self.replies[reply].format(**fields)
        for part, correct in self.corrections.items():
            text = text.replace(part, correct)
        return text

    def duration(self, seconds: float) -> str:
        """Format a duration in hours, minutes and seconds, at least 1 s; from one hour on rounded to minutes."""
        total = max(1, round(seconds))
        if total >= 3600:
            total = round(total / 60) * 60
        counts = (total // 3600, total // 60 % 60, total % 60)
        parts = [f"{count} {unit[count != 1]}" for count, unit in zip(counts, self.units, strict=True) if count]
        return self.list(parts)

    def list(self, parts: list[str]) -> str:
        """Join parts with commas, and with ``last_separator`` before the last part."""
        return (
            self.last_separator.join(parts)
            if len(parts) < 3
            else f"{', '.join(parts[:-1])}{self.last_separator}{parts[-1]}"
        )


def find_language(code: str) -> Language:
    """Return the language of a code in ``INTENT_LANGUAGES``; English for any other code. Imports its module."""
    name = code if code in INTENT_LANGUAGES else "en"
    language: Language = importlib.import_module(f"agent.pipeline.responders.intents.languages.{name}").LANGUAGE
    return language


def clock_24(separator: str, on_the_hour: str | None = None) -> Callable[[datetime], str]:
    """Return a function that formats a time as ``7:05``, with ``separator`` in place of the colon.

    On the hour, ``on_the_hour`` replaces the separator and the minutes, if it is given.
    """

    def format(moment: datetime) -> str:
        is_short = on_the_hour is not None and moment.minute == 0
        return f"{moment.hour}{on_the_hour}" if is_short else f"{moment.hour}{separator}{moment:%M}"

    return format

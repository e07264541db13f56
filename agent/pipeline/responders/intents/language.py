"""What one language needs for spoken requests: sentences that are understood, and the replies to them."""

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
        sentences: By intent: templates in the syntax of hassil (``[optional] (one|other) {list:slot} <rule>``). They
            add to those of home-assistant-intents.
        rules: Parts of the templates.
        words: By list: templates and the values that they stand for.
        replies: By name: sentences with fields in braces.
        units: The singular and the plural of hour, minute and second.
        spellings: Words as services of transcription may write them, and as the sentences expect them.
        corrections: Parts of replies with their fields filled in, and the correct form.
        joint: Stands between the last two parts of a duration or a list.
        spoken_time: Formats a time of day.
        spoken_date: Formats a date with its weekday.
        examples: Requests that "what can I say" names.
        has_12_hours: Whether "seven" may also mean seven in the evening.
    """

    sentences: Mapping[str, tuple[str, ...]]
    rules: Mapping[str, str]
    words: Mapping[str, Mapping[str, int | str]]
    replies: Mapping[str, str]
    units: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]
    joint: str
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
        """Format a duration in hours, minutes and seconds; without seconds from one hour on."""
        total = max(1, round(seconds))
        if total >= 3600:
            total = round(total / 60) * 60
        counts = (total // 3600, total // 60 % 60, total % 60)
        parts = [f"{count} {unit[count != 1]}" for count, unit in zip(counts, self.units, strict=True) if count]
        return self.list(parts)

    def list(self, parts: list[str]) -> str:
        """Join parts of a sentence."""
        return self.joint.join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])}{self.joint}{parts[-1]}"


def find_language(code: str) -> Language:
    """Return one of ``INTENT_LANGUAGES``, English for any other code."""
    name = code if code in INTENT_LANGUAGES else "en"
    language: Language = importlib.import_module(f"agent.pipeline.responders.intents.languages.{name}").LANGUAGE
    return language


def clock_24(separator: str, suffix: str = "") -> Callable[[datetime], str]:
    """Return a function that formats a time as ``7:05`` with another separator and suffix."""
    return lambda moment: f"{moment.hour}{separator}{moment:%M}{suffix}"

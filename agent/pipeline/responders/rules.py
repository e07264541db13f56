"""The responder that replies by configured patterns."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.pipeline.responders.responder import DeviceContext, ReplyPieces, ResponderKind, StatelessResponder
from agent.pipeline.responders.settings import ResponderSettings, RuleSettings

if TYPE_CHECKING:
    from datetime import datetime

MAX_TEXT_CHARACTERS = 4000
"""Longer than any spoken turn. The limit is necessary because the run time of a configured pattern may grow with the
length of the text."""

_FIELD = re.compile(r"\{(\w+)\}")
_ENDS_OPEN = re.compile(r"(?:[*+]|\{\d*,\d*\})\??\)*\$?$")


class RulesResponder(StatelessResponder):
    """Replies with the text of the first rule whose pattern matches the transcript, or with the fallback.

    A reply may contain ``{time}``, ``{date}`` and ``{weekday}`` in spoken English (``3:04 PM``, ``November 21, 2026``,
    ``Saturday``), ``{heard}`` (the transcript), and ``{1}`` or ``{name}`` (a group of the pattern). Any other field is
    not replaced. With an empty reply the device stays silent. Each pattern is valid, because the check of the
    configuration compiles it. Not thread-safe; owned by the responder thread.
    """

    def __init__(
        self, rules: Sequence[RuleSettings], fallback: str = "", clock: Callable[[], datetime] | None = None
    ) -> None:
        self._rules = rules
        self._fallback = fallback
        self._clock = clock or local_now

    def reply(self, text: str, turn: int) -> ReplyPieces:
        transcript = text[:MAX_TEXT_CHARACTERS]
        for pattern, rule in zip(self._patterns, self._rules, strict=True):
            if match := pattern.search(transcript):
                filled = self._fill(rule.reply, transcript, match)
                break
        else:
            filled = self._fill(self._fallback, transcript, None)
        if filled.strip():
            yield filled
        return None

    @functools.cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        """The patterns. The first reply compiles them, so that the start of the daemon does not wait for this."""
        return [re.compile(rule.pattern, re.IGNORECASE) for rule in self._rules]

    def _fill(self, reply: str, transcript: str, match: re.Match[str] | None) -> str:
        now = self._clock()
        fields = {
            "time": spoken_time(now),
            "date": f"{now:%B} {now.day}, {now.year}",
            "weekday": f"{now:%A}",
            "heard": transcript,
        }
        if match is not None:
            fields |= {name: value or "" for name, value in match.groupdict().items()}
            fields |= {str(number): value or "" for number, value in enumerate((match[0], *match.groups()))}
        # One pass over the reply: braces in the transcript are not replaced as fields.
        return _FIELD.sub(lambda field: fields.get(field[1], field[0]), reply)


def matcher(rules: Sequence[RuleSettings]) -> Callable[[str], bool]:
    """Return a function that tells whether a text is a complete request, which means that a rule matches it.

    A pattern that ends with a repetition ("remind me to (.+)") is ignored, because more words may follow.
    """

    @functools.cache
    def patterns() -> list[re.Pattern[str]]:
        return [re.compile(each.pattern, re.IGNORECASE) for each in rules if not _ENDS_OPEN.search(each.pattern)]

    return lambda text: any(pattern.search(text[:MAX_TEXT_CHARACTERS]) for pattern in patterns())


def local_now() -> datetime:
    """Return the local time (naive) in the current time zone of the machine."""
    # The C library reads /etc/localtime once; tzset(3) reads it again if it has changed.
    time.tzset()
    from datetime import datetime  # imported here because it takes 1 ms, which the start of the daemon does not need

    return datetime.now()


def spoken_time(now: datetime) -> str:
    """Format a time of day for the speech service: ``3:04 PM``, or ``3 PM`` on the hour."""
    hour = now.hour % 12 or 12
    half = "AM" if now.hour < 12 else "PM"
    return f"{hour}:{now:%M} {half}" if now.minute else f"{hour} {half}"


def _make(responder: ResponderSettings, device: DeviceContext) -> RulesResponder:
    return RulesResponder(responder.rules, responder.fallback)


RESPONDER = ResponderKind(_make, request_matcher=lambda responder: matcher(responder.rules))

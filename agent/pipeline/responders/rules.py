"""The responder that answers by patterns and replies of the configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

from agent.errors import ConfigError
from agent.pipeline.responders.responder import ReplyPieces, ResponderKind
from agent.pipeline.responders.settings import ResponderSettings, RuleSettings

# A pattern of the user's may need long for a long text; no one says as much as this in one turn.
MAX_TEXT_CHARACTERS = 4000

_FIELD = re.compile(r"\{(\w+)\}")


class RulesResponder:
    """The first rule whose pattern is found in what was heard answers; where none is, the fallback does.

    In a reply ``{time}``, ``{date}`` and ``{weekday}`` are filled in as they are spoken in English (``3:04 PM``,
    ``November 21, 2026``, ``Saturday``), ``{heard}`` with what was heard, and ``{1}`` or ``{name}`` with a group of the
    pattern. A field that does not exist is left as it is written. An empty reply is no answer.
    Raises ``ConfigError`` for a pattern that is not a regular expression.
    """

    def __init__(
        self, rules: Sequence[RuleSettings], fallback: str = "", clock: Callable[[], datetime] = datetime.now
    ) -> None:
        self._rules = [(self._compiled(number, rule.pattern), rule.reply) for number, rule in enumerate(rules)]
        self._fallback = fallback
        self._clock = clock

    def reply(self, text: str, turn: int) -> ReplyPieces:
        heard = text[:MAX_TEXT_CHARACTERS]
        for pattern, reply in self._rules:
            if found := pattern.search(heard):
                filled = self._fill(reply, heard, found)
                break
        else:
            filled = self._fill(self._fallback, heard, None)
        if filled.strip():
            yield filled

    def close(self) -> None:
        """Nothing is kept between answers."""

    @staticmethod
    def _compiled(number: int, pattern: str) -> re.Pattern[str]:
        try:
            return re.compile(pattern, re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(
                f"responder.rules[{number}].pattern: {pattern!r} is not a regular expression: {error}"
            ) from error

    def _fill(self, reply: str, heard: str, found: re.Match[str] | None) -> str:
        now = self._clock()
        fields = {
            "time": spoken_time(now),
            "date": f"{now:%B} {now.day}, {now.year}",
            "weekday": f"{now:%A}",
            "heard": heard,
        }
        if found is not None:
            fields |= {name: value or "" for name, value in found.groupdict().items()}
            fields |= {str(number): value or "" for number, value in enumerate((found[0], *found.groups()))}
        # Filled in once: what was heard may itself hold braces, and is never looked into.
        return _FIELD.sub(lambda field: fields.get(field[1], field[0]), reply)


def spoken_time(now: datetime) -> str:
    """A time of day that speech engines say well: ``3:04 PM``, on the hour ``3 PM``."""
    hour = now.hour % 12 or 12
    half = "AM" if now.hour < 12 else "PM"
    return f"{hour}:{now:%M} {half}" if now.minute else f"{hour} {half}"


def _make(responder: ResponderSettings) -> RulesResponder:
    return RulesResponder(responder.rules, responder.fallback)


RESPONDER = ResponderKind(_make)

"""Recognizes spoken requests without a network, with hassil and the sentences of home-assistant-intents."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agent.pipeline.responders.intents.language import Language, find_language
from agent.system.log import RepeatedWarning
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from hassil.intents import Intents
    from hassil.recognize import RecognizeResult

log = logging.getLogger(__name__)

MAX_TEXT_CHARACTERS = 200
"""Longer than any spoken request. The limit is necessary because the time of recognition grows with the length."""

SHARED = {
    "HassStartTimer": "StartTimer",
    "HassCancelTimer": "CancelTimer",
    "HassCancelAllTimers": "CancelAllTimers",
    "HassIncreaseTimer": "IncreaseTimer",
    "HassDecreaseTimer": "DecreaseTimer",
    "HassPauseTimer": "PauseTimer",
    "HassUnpauseTimer": "ResumeTimer",
    "HassTimerStatus": "ListTimers",
    "HassGetCurrentTime": "GetTime",
    "HassGetCurrentDate": "GetDate",
    "HassNevermind": "Stop",
}
"""The intents of home-assistant-intents that concern the device itself, and their names here."""

_CLOCK_TIME = re.compile(r"\b(\d{1,2})(?:[:.]|\s?h\s?)(\d\d)\b", re.IGNORECASE)
_FRENCH_HOUR = re.compile(r"\b(\d{1,2})h\b", re.IGNORECASE)
_NUMBER = r"(?<![\w.,/])(?P<count>\d{0,3})(?:[.,](?P<decimals>25|50?|75)|\s?(?P<fraction>[½¼¾]|1/2))"
_QUARTERS = {"25": 1, "¼": 1, "5": 2, "50": 2, "½": 2, "1/2": 2, "75": 3, "¾": 3}
_DIGITS = str.maketrans("०१२३४५६७८९", "0123456789")
_HALF_DAY = re.compile(r"\b(\d*)\s*([ap])\.?\s?m\b\.?", re.IGNORECASE)


class Intent(NamedTuple):
    """A recognized request. Immutable. The values of ``slots`` are numbers, keywords or words of the user."""

    name: str
    slots: Mapping[str, Any]


class IntentRecognizer:
    """Recognizes the requests of one language. Thread-safe.

    The first request or ``load`` loads the libraries and the sentences (0.1 s on a PC). Later requests take a few
    milliseconds.

    Args:
        code: The language, ISO 639-1.
    """

    def __init__(self, code: str) -> None:
        self._code = code
        self._lock = threading.Lock()
        self._sources: tuple[Intents, ...] = ()
        self._warning = RepeatedWarning(log)

    def load(self) -> None:
        """Load the libraries and the sentences, and recognize a text, because the first recognition is slow."""
        self.recognize("0")

    def matches(self, text: str) -> bool:
        """Return whether a text is a complete request."""
        return self.recognize(text) is not None

    def recognize(self, text: str) -> Intent | None:
        """Return the request in a transcript; ``None`` if the transcript is not a request."""
        spoken = normalize(text, find_language(self._code))
        if not spoken or len(spoken) > MAX_TEXT_CHARACTERS:
            return None
        best, best_rank = None, (0, 0)
        with self._lock:
            if not self._sources:
                self._sources = (_own_sentences(find_language(self._code), self._code), self.shared_sentences())
            for source in self._sources:
                for result in results(spoken, source, self._code, self._warning):
                    # Prefer the fewest characters in wildcards, then the most matched chunks of the template.
                    free = sum(len(str(each.value)) for each in result.entities.values() if each.is_wildcard)
                    rank = (-free, result.text_chunks_matched)
                    if best is None or rank > best_rank:
                        best, best_rank = result, rank
        if best is None:
            return None
        slots = {name: each.value for name, each in best.entities.items()}
        return Intent(SHARED.get(best.intent.name, best.intent.name), slots)

    def shared_sentences(self) -> Intents:
        """Return the sentences of home-assistant-intents about timers, the time and the date."""
        return shared_sentences(self._code, _keep_own_intents)


@functools.cache
def recognizer_for(code: str) -> IntentRecognizer:
    """Return the recognizer of a language. All callers share one object."""
    return IntentRecognizer(code)


def results(text: str, source: Intents, code: str, warning: RepeatedWarning) -> Iterator[RecognizeResult]:
    """Yield the matches of a text; log a warning if the sentences cannot be used."""
    from hassil import recognize_all
    from hassil.errors import HassilError

    try:
        yield from recognize_all(text, source, language=code)
    except HassilError as error:  # a newer home-assistant-intents may need a list that only Home Assistant has
        warning.warn("intents: sentences of home-assistant-intents cannot be used, %s", error)


def shared_sentences(code: str, change: Callable[[dict[str, Any]], None]) -> Intents:
    """Return the sentences of home-assistant-intents after ``change`` has modified their document in place."""
    from hassil.intents import Intents
    from home_assistant_intents import get_intents

    document = get_intents(code) or {}
    document["language"] = code
    document.setdefault("lists", {})
    change(document)
    return Intents.from_dict(document)


_NUMBERS = {
    "hours": (1, 100),
    "minutes": (1, 360),  # each number takes memory
    "seconds": (1, 360),
    "volume": (0, 100),
    "hour": (0, 24),
    "minute": (0, 59),
}


def _own_sentences(language: Language, code: str) -> Intents:
    from hassil.intents import Intents

    lists: dict[str, Any] = {name: {"range": {"from": low, "to": high}} for name, (low, high) in _NUMBERS.items()}
    lists["name"] = {"wildcard": True}
    for name, words in language.words.items():
        lists[name] = {"values": [{"in": template, "out": value} for template, value in words.items()]}
    intents = {name: {"data": [{"sentences": [*templates]}]} for name, templates in language.sentences.items()}
    return Intents.from_dict(
        {"language": code, "intents": intents, "lists": lists, "expansion_rules": {**language.rules}}
    )


def _keep_own_intents(document: dict[str, Any]) -> None:
    """Keep the sentences about timers, the time and the date."""
    intents = document.get("intents", {})
    document["intents"] = {
        name: {"data": [*map(_without_areas, data["data"])]} for name, data in intents.items() if name in SHARED
    }
    for name in ("area", "floor", "name"):  # Home Assistant fills these lists; some rules refer to them
        document["lists"].setdefault(name, {"values": []})


def _without_areas(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group of sentences, without those that name a room or that run a command when the timer ends."""
    kept = [each for each in data["sentences"] if "{area" not in each and "{timer_command" not in each]
    return {"sentences": kept}


_Replacement = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


@functools.cache
def _replacements(units: tuple[tuple[str, str], ...], words: tuple[tuple[str, str], ...]) -> list[_Replacement]:
    """Return the replacements of ``normalize``: for the spellings of words, and for fractions of hours and minutes."""
    replacements: list[_Replacement] = []
    for written, expected in words:
        pattern = re.compile(rf"(?<!\S){re.escape(written)}(?![^\s.,!?])", re.IGNORECASE)
        replacements.append((pattern, expected))
    for unit, part in itertools.pairwise(units):
        pattern = re.compile(rf"{_NUMBER}[\s-]?(?:{'|'.join(unit)})(?!\w)", re.IGNORECASE)
        replacements.append((pattern, functools.partial(_without_fraction, unit, part)))
    return replacements


def _without_fraction(unit: tuple[str, str], part: tuple[str, str], match: re.Match[str]) -> str:
    """Return ``1 hour 30 minutes`` for ``1.5 hours``. One ``unit`` is 60 of ``part``."""
    count, quarters = int(match["count"] or 0), _QUARTERS[match["decimals"] or match["fraction"]]
    parts = f"{15 * quarters} {part[1]}"
    return f"{count} {unit[count != 1]} {parts}" if count else parts


def normalize(text: str, language: Language) -> str:
    """Return a transcript in the form that the sentences expect.

    ``7:30 a.m.`` becomes ``7 30 am``, ``7h30`` becomes ``7 30``, and ``1.5 hours`` becomes ``1 hour 30 minutes``.
    """
    spoken = text.translate(_DIGITS)
    for pattern, replacement in _replacements(language.units, tuple(language.spellings.items())):
        spoken = pattern.sub(replacement, spoken)
    spoken = _CLOCK_TIME.sub(lambda match: f"{match[1]} {int(match[2])}" if int(match[2]) else match[1], spoken)
    spoken = _FRENCH_HOUR.sub(r"\1 h", spoken)
    spoken = _HALF_DAY.sub(lambda match: f"{match[1]} {match[2].lower()}m", spoken)
    return spoken.replace("%", " percent ").strip()

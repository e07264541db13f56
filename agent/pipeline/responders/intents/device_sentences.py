"""Decides whether a text is a request for a device of the house, with the sentences of home-assistant-intents."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from agent.pipeline.responders.intents.language import find_language
from agent.pipeline.responders.intents.recognizer import (
    MAX_TEXT_CHARACTERS,
    SHARED,
    normalize,
    results,
    shared_sentences,
)
from agent.system.log import RepeatedWarning

log = logging.getLogger(__name__)

MAX_NAME_WORDS = 4
"""Limit for the words in all names (devices, rooms, floors, zones) of a text together. A text that exceeds it is not a
request for a device."""

NAMES = ("name", "area", "floor", "zone")
"""The lists whose values only Home Assistant knows. Here any words match."""

_TALK = "HassRespond"
"""The intent of greetings, which are left to the responder."""
_STATE = "HassGetState"
_NAME = re.compile(rf"\{{(?:{'|'.join(NAMES)})(?::\w+)?\}}")
_OPTIONAL = re.compile(r"\[[^\[\]]*\]")


class DeviceSentences:
    """The sentences of one language about lights, covers, media players and other devices, and about their states.

    A sentence is used only if it has a fixed word besides names and optional parts. Otherwise every text would match as
    the name of a scene. A question for a state is used only if it names the state. Otherwise every question would match
    as a question for the state of a device.

    Thread-safe. The first text or ``load`` loads the libraries and the sentences (0.1 to 0.3 s on a PC).

    Args:
        code: The language, ISO 639-1.
    """

    def __init__(self, code: str) -> None:
        self._code = code
        self._lock = threading.Lock()
        self._sentences: Any = None  # the sentences in the form of hassil
        self._warning = RepeatedWarning(log)

    def load(self) -> None:
        """Load the libraries and the sentences."""
        self.matches("0")

    def matches(self, text: str) -> bool:
        """Return whether a text is a request for a device, or may be one."""
        language = find_language(self._code)
        # Match with and without spelling replacements: "min" may mean minutes or the lowest brightness.
        spoken = {normalize(text, each) for each in (language, language._replace(spellings={}))}
        return any(self._matches(each) for each in spoken if each and len(each) <= MAX_TEXT_CHARACTERS)

    def _matches(self, spoken: str) -> bool:
        with self._lock:
            if self._sentences is None:
                self._sentences = shared_sentences(self._code, _keep_devices)
            found = results(spoken, self._sentences, self._code, self._warning)
            return any(_count_words(result.entities) <= MAX_NAME_WORDS for result in found)


@functools.cache
def device_sentences(code: str) -> DeviceSentences:
    """Return the sentences of a language. All callers share one object."""
    return DeviceSentences(code)


def _keep_devices(document: dict[str, Any]) -> None:
    document["intents"] = {
        name: {"data": [{"sentences": [*_usable(name, group["sentences"])]} for group in data["data"]]}
        for name, data in document.get("intents", {}).items()
        if name not in SHARED and name != _TALK
    }
    document["lists"].update({name: {"wildcard": True} for name in NAMES})


def _usable(intent: str, templates: list[str]) -> Iterator[str]:
    for template in templates:
        rest = _NAME.sub("", template)
        if intent == _STATE and "{" not in rest:
            continue
        while (shorter := _OPTIONAL.sub("", rest)) != rest:
            rest = shorter
        if re.search(r"\w", rest):
            yield template


def _count_words(entities: Mapping[str, Any]) -> int:
    return sum(len(str(each.value).split()) for each in entities.values() if each.is_wildcard and each.name in NAMES)

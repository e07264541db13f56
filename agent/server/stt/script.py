"""The script engine: a transcript from a file, word by word as the sound comes in, so that tests can be exact."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.audio.format import SPEECH
from agent.errors import UsageError
from agent.services.protocols.codec import Transcript, Word

WORD_SECONDS = 0.3
PAUSE_SECONDS = 0.2
_LARGEST_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One final: its words, and the moment (seconds of sound) at which it is given."""

    words: tuple[Word, ...]
    final_seconds: float

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


class Script:
    """Gives every session its transcript: the first session the first one, and so on; the last is given to all others.

    A text file holds a final a line; an empty line stands between sessions. Each word is 0.3 s long, a line comes 0.2 s
    after its last word, the next begins there. A JSON file holds a list of finals, ``{"text": ...}`` or
    ``{"words": [{"word", "start", "end", "conf"}], "at": seconds}``, or a list of such lists, one a session.

    When sound up to the end of a word has come, a partial with all words of the line so far is given; at ``at`` (0.2 s
    after the last word) the final. What has not been given when the sound ends is given then, as finals.
    """

    name = "script"

    def __init__(self, sessions: list[list[Line]]) -> None:
        self._sessions = sessions or [[]]
        self._opened = 0
        self._lock = threading.Lock()

    @classmethod
    def read(cls, path: str) -> Script:
        """Raises ``UsageError`` where the file cannot be read or makes no sense."""
        try:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(_LARGEST_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the script {path} cannot be read ({error}): name a text or JSON file in UTF-8"
            ) from error
        if not text.lstrip().startswith("["):
            return cls([_spoken(block.splitlines()) for block in text.strip().split("\n\n")])
        try:
            found = json.loads(text)
            nested = found and all(isinstance(entry, list) for entry in found)
            return cls([_timed(entry) for entry in (found if nested else [found])])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"the script {path} is not a list of finals with text or words ({error})") from error

    def prepare(self) -> None:
        return

    def open(self) -> Reading:
        with self._lock:
            lines = self._sessions[min(self._opened, len(self._sessions) - 1)]
            self._opened += 1
        return Reading(lines)


class Reading:
    """One session of a script."""

    def __init__(self, lines: list[Line]) -> None:
        self._events: list[tuple[int, Transcript]] = []
        for line in lines:
            for count, word in enumerate(line.words, 1):
                said = Transcript(" ".join(each.word for each in line.words[:count]), final=False)
                self._events.append((_bytes_at(word.end_seconds), said))
            self._events.append((_bytes_at(line.final_seconds), Transcript(line.text, final=True, words=line.words)))
        self._heard = 0

    def feed(self, pcm: bytes) -> list[Transcript]:
        self._heard += len(pcm)
        given: list[Transcript] = []
        while self._events and self._events[0][0] <= self._heard:
            given.append(self._events.pop(0)[1])
        return given

    def finish(self) -> list[Transcript]:
        rest = [transcript for _, transcript in self._events if transcript.final]
        self._events.clear()
        return rest

    def close(self) -> None:
        self._events.clear()


def _bytes_at(seconds: float) -> int:
    return SPEECH.bytes_of(seconds)


def _spoken(lines: list[str]) -> list[Line]:
    found: list[Line] = []
    at = 0.0
    for line in lines:
        words = []
        for word in line.split():
            words.append(Word(word, round(at, 3), round(at + WORD_SECONDS, 3), 1.0))
            at += WORD_SECONDS
        if words:
            at += PAUSE_SECONDS
            found.append(Line(tuple(words), round(at, 3)))
    return found


def _timed(finals: list[Any]) -> list[Line]:
    lines: list[Line] = []
    for final in finals:
        if "words" not in final:
            began = lines[-1].final_seconds if lines else 0.0
            line = _spoken([final["text"]])[0]
            words = tuple(
                Word(word.word, word.start_seconds + began, word.end_seconds + began, 1.0) for word in line.words
            )
            lines.append(Line(words, line.final_seconds + began))
            continue
        words = tuple(
            Word(str(word["word"]), float(word["start"]), float(word["end"]), float(word.get("conf", 1.0)))
            for word in final["words"]
        )
        end = float(final.get("at", (words[-1].end_seconds if words else 0.0) + PAUSE_SECONDS))
        if not all(math.isfinite(word.end_seconds) for word in words) or not math.isfinite(end):
            raise ValueError("a time that is no number")
        lines.append(Line(words, end))
    return lines

"""Recognition engine that reads timed transcripts from a file, so that tests can predict each transcript."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

from agent.audio.format import SPEECH
from agent.errors import UsageError
from agent.server.stt.engine import SttEngine, SttOptions
from agent.services.protocols.codec import Transcript, Word
from agent.system.named_tuple import NamedTuple

WORD_SECONDS = 0.3
PAUSE_SECONDS = 0.2
_MAX_FILE_BYTES = 4 << 20


class ScriptLine(NamedTuple):
    """The words of one final transcript, and its position in seconds from the start of the audio. Immutable."""

    words: tuple[Word, ...]
    final_seconds: float

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


class ScriptEngine:
    """Plays one session of the script in each stream, in order; the last session repeats. Thread-safe.

    A text file has one final transcript per line and an empty line between sessions. Each word lasts 0.3 s. A final
    follows 0.2 s after the last word, and the next line starts there. A JSON file has a list of finals,
    ``{"text": ...}`` or ``{"words": [{"word", "start", "end", "conf"}], "at": seconds}``, or a list of such lists, one
    per session.

    After the audio of each word, a partial contains the words of the line so far. The final follows at ``at`` (default:
    0.2 s after the last word). At the end of the audio, the remaining lines follow as finals.
    """

    name = "script"

    def __init__(self, sessions: list[list[ScriptLine]]) -> None:
        self._sessions = sessions or [[]]
        self._opened = 0
        self._lock = threading.Lock()

    @classmethod
    def read(cls, path: str) -> ScriptEngine:
        """Read the script from a text or JSON file.

        Raises:
            UsageError: The file cannot be read or has another format.
        """
        try:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(_MAX_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the script {path} cannot be read ({error}): name a text or JSON file in UTF-8"
            ) from error
        if not text.lstrip().startswith("["):
            return cls([_lines_of_text(block.splitlines()) for block in text.strip().split("\n\n")])
        try:
            value = json.loads(text)
            is_nested = value and all(isinstance(entry, list) for entry in value)
            return cls([_lines_of_json(entry) for entry in (value if is_nested else [value])])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"the script {path} cannot be parsed ({error}): write a list of finals with text or words"
            ) from error

    def prepare(self) -> None:
        return

    def open(self) -> ScriptStream:
        with self._lock:
            lines = self._sessions[min(self._opened, len(self._sessions) - 1)]
            self._opened += 1
        return ScriptStream(lines)


def create(options: SttOptions) -> SttEngine:
    """Create the engine; the entry point of the registry.

    Raises:
        UsageError: No script is configured, or it cannot be read.
    """
    if options.script is None:
        raise UsageError("the engine script needs a file with the transcript: name it with --script or server.script")
    return ScriptEngine.read(options.script)


class ScriptStream:
    """One session of a script. Not thread-safe; owned by the connection's thread."""

    def __init__(self, lines: list[ScriptLine]) -> None:
        self._events: list[tuple[int, Transcript]] = []
        for line in lines:
            for count, word in enumerate(line.words, 1):
                partial = Transcript(" ".join(each.word for each in line.words[:count]), is_final=False)
                self._events.append((SPEECH.bytes_of(word.end_seconds), partial))
            final = Transcript(line.text, is_final=True, words=line.words)
            self._events.append((SPEECH.bytes_of(line.final_seconds), final))
        self._received_bytes = 0
        self._partial = ""

    def feed(self, pcm: bytes) -> list[Transcript]:
        self._received_bytes += len(pcm)
        transcripts: list[Transcript] = []
        while self._events and self._events[0][0] <= self._received_bytes:
            transcripts.append(self._events.pop(0)[1])
        if transcripts:
            last = transcripts[-1]
            self._partial = "" if last.is_final else last.text
        return transcripts

    def early_final(self) -> list[Transcript]:
        return [Transcript(self._partial, is_final=True, is_early=True)]

    def finish(self) -> list[Transcript]:
        rest = [transcript for _, transcript in self._events if transcript.is_final]
        self._events.clear()
        return rest

    def close(self) -> None:
        self._events.clear()


def _lines_of_text(texts: list[str]) -> list[ScriptLine]:
    lines: list[ScriptLine] = []
    at = 0.0
    for text in texts:
        words = []
        for word in text.split():
            words.append(Word(word, round(at, 3), round(at + WORD_SECONDS, 3), 1.0))
            at += WORD_SECONDS
        if words:
            at += PAUSE_SECONDS
            lines.append(ScriptLine(tuple(words), round(at, 3)))
    return lines


def _lines_of_json(finals: list[Any]) -> list[ScriptLine]:
    lines: list[ScriptLine] = []
    for final in finals:
        if "words" not in final:
            start = lines[-1].final_seconds if lines else 0.0
            # A text without words is an empty final, as an empty list of words is.
            line = next(iter(_lines_of_text([final["text"]])), ScriptLine((), PAUSE_SECONDS))
            words = tuple(
                Word(word.word, word.start_seconds + start, word.end_seconds + start, 1.0) for word in line.words
            )
            lines.append(ScriptLine(words, line.final_seconds + start))
            continue
        words = tuple(
            Word(str(word["word"]), float(word["start"]), float(word["end"]), float(word.get("conf", 1.0)))
            for word in final["words"]
        )
        end = float(final.get("at", (words[-1].end_seconds if words else 0.0) + PAUSE_SECONDS))
        if not all(math.isfinite(word.end_seconds) for word in words) or not math.isfinite(end):
            raise ValueError("a time is not a finite number")
        lines.append(ScriptLine(words, end))
    return lines

"""Interfaces of the recognition engines and their shared helpers."""

from __future__ import annotations

import importlib.util
from typing import Protocol

from agent.errors import AudioError
from agent.services.protocols.codec import Transcript, Word
from agent.system.named_tuple import NamedTuple


class SttOptions(NamedTuple):
    """Options of the recognition engines. Immutable.

    Args:
        model_path: Directory of a vosk model.
        script: Text or JSON file for the script engine.
    """

    model_path: str | None = None
    script: str | None = None


class RecognizerStream(Protocol):
    """Recognition of one continuous audio stream. Not thread-safe; owned by the connection's thread."""

    def feed(self, pcm: bytes) -> list[Transcript]:
        """Add 16 kHz mono s16le and return the new transcripts.

        Word times are in seconds from the first sample of the stream.
        """
        ...

    def early_final(self) -> list[Transcript]:
        """Return the new transcripts. The last of them is an early final of the audio since the last final."""
        ...

    def finish(self) -> list[Transcript]:
        """Return the remaining transcripts, including the last final."""
        ...

    def close(self) -> None:
        """Release the resources. Idempotent."""
        ...


class SttEngine(Protocol):
    """Opens recognition streams. Thread-safe."""

    name: str

    def prepare(self) -> None:
        """Start to load the model and return immediately."""
        ...

    def open(self) -> RecognizerStream:
        """Wait for the model and open a stream.

        Raises:
            AudioError: The engine cannot recognize speech, or its model did not load in time.
        """
        ...


class UnavailableRecognizer:
    """Engine without recognition: rejects every stream with the reason and the remedy. Thread-safe."""

    name = "none"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def prepare(self) -> None:
        return

    def open(self) -> RecognizerStream:
        raise AudioError(self._reason)


def estimate_word_times(text: str, start_seconds: float, end_seconds: float) -> tuple[Word, ...]:
    """Distribute the words of ``text`` over its duration, in proportion to their length in characters.

    The confidence of each word is 1. For engines that report no word times.
    """
    words = text.split()
    characters = sum(len(word) + 1 for word in words)
    at, timed = start_seconds, []
    for word in words:
        end = at + (end_seconds - start_seconds) * (len(word) + 1) / characters
        timed.append(Word(word, round(at, 3), round(end, 3), 1.0))
        at = end
    return tuple(timed)


def is_installed(module: str) -> bool:
    """Return whether the Python package ``module`` can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None

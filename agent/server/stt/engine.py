"""What a recognition engine is, and which one listens: the words that all engines share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

from agent.errors import AudioError, UsageError
from agent.services.protocols.codec import Transcript, Word

RECOGNISERS = ("auto", "moonshine", "vosk", "script", "none")
ADD_RECOGNITION = Path(__file__).parents[2] / "add-recognition"
"""What the Debian package has beside its library, and a clone has not."""


class RecognizerStream(Protocol):
    """One listening session. ``feed`` takes 16 kHz mono s16le and gives what has been understood since; ``finish``
    gives the rest, the last final among it. Times count from the first sample. One thread uses it; ``close`` twice is
    safe."""

    def feed(self, pcm: bytes) -> list[Transcript]: ...
    def finish(self) -> list[Transcript]: ...
    def close(self) -> None: ...


class Recogniser(Protocol):
    """Opens listening sessions, from any thread. ``prepare`` begins to load what is needed and returns at once;
    ``open`` waits for it, and raises ``AudioError``, one sentence, where this engine cannot listen."""

    name: str

    def prepare(self) -> None: ...
    def open(self) -> RecognizerStream: ...


class UnavailableRecognizer:
    """No engine at all: every session is told, in a sentence, what is missing."""

    name = "none"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def prepare(self) -> None:
        return

    def open(self) -> RecognizerStream:
        raise AudioError(self._reason)


def remedy() -> str:
    """How a machine that has no recogniser gets one: the command to type."""
    if ADD_RECOGNITION.exists():
        return f"sudo {ADD_RECOGNITION}"
    return "pip install 'edge-voice-agent[recognition]' (into the environment that voice-agent runs in)"


def find(name: str, model_path: str | None, script: str | None) -> Recogniser:
    """The engine called ``name``, one of ``RECOGNISERS``. ``auto`` is moonshine where it is installed, else vosk where
    it is and a model is named. Raises ``UsageError`` for a script that cannot be read or is not named, and for vosk
    without the directory of a model or the package."""
    if name == "script":
        from agent.server.stt.script import Script

        if script is None:
            raise UsageError(
                "the engine script needs a file with the transcript: name it with --script or server.script"
            )
        return Script.read(script)
    if name == "moonshine" or (name == "auto" and _is_installed("moonshine_voice")):
        from agent.server.stt.moonshine import Moonshine

        return Moonshine()
    if name == "vosk" or (name == "auto" and model_path and _is_installed("vosk")):
        from agent.server.stt.vosk import Vosk

        if not model_path or not Path(model_path).is_dir():
            raise UsageError(
                f"the engine vosk needs the directory of a model, and {model_path!r} is none: "
                "name one with --model-path or server.model_path"
            )
        if not _is_installed("vosk"):
            raise UsageError('the engine vosk is not installed: install the extra "vosk", or choose another engine')
        return Vosk(model_path)
    if name == "none":
        return UnavailableRecognizer("this server does not recognise speech: start it with --recognition auto")
    return UnavailableRecognizer(
        f"there is no recogniser on this machine: {remedy()}; or install the extra vosk, and name the directory of a "
        "model with server.model_path"
    )


def spread(text: str, start_seconds: float, end_seconds: float) -> tuple[Word, ...]:
    """The words of ``text`` over the time it took, each as long as its share of the letters: for engines that give no
    times of words."""
    words = text.split()
    letters = sum(len(word) + 1 for word in words)
    at, found = start_seconds, []
    for word in words:
        end = at + (end_seconds - start_seconds) * (len(word) + 1) / letters
        found.append(Word(word, round(at, 3), round(end, 3), 1.0))
        at = end
    return tuple(found)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None

"""Finds any phrase in microphone frames, with a grammar for a model of vosk."""

from __future__ import annotations

import errno
import importlib.util
import json
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture.spotter import Spot
from agent.system.optional_parts import install_command
from agent.system.threads import Deadline

PACKAGE = "vosk"
_EXPECTED = "expected the directory of a model, such as vosk-model-small-en-us-0.15, in model_path"

HOLD_SECONDS = 0.3
"""How long a phrase has to stay in the partial result before it is judged. With 0.1 s one phrase in four was missed and
three times as many similar words were found, because the decoder had not yet decided between them (measured with seven
voices)."""
SIMILAR_WORDS = 5
"""Number of similar words of the vocabulary that the grammar gets for each word. Without them, "a lexus" is recognized
as "alexa": in 19 of 98 sentences with similar words a phrase was found by mistake, instead of in 1. With 20 similar
words, fewer phrases are found in noise."""
RENEW_SECONDS = 86400.0
"""A decoder is replaced after this much audio: vosk counts time in floats of 32 bits, whose steps are 0.06 s after
twelve days and 0.5 s after three months (``Recognizer::GetResult`` in vosk-api)."""
_MIN_SIMILARITY = 0.35
_MAX_AFTER_SECONDS = 1.0
UNKNOWN = "[unk]"


def model_problems(model_path: str, phrases: Sequence[str]) -> list[tuple[str, str]]:
    """Return each reason why the phrases cannot be found, without loading the model.

    Returns:
        Pairs of the key of ``WakeSettings`` to change, ``model_path`` or ``words``, and one sentence.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return [("model_path", _not_installed())]
    if not model_path:
        return [("model_path", f"the engine vosk needs a model, {_EXPECTED}")]
    folder = Path(model_path)
    files = [file for file in (folder / "am" / "final.mdl", folder / "final.mdl") if file.is_file()]
    if not files:
        return [("model_path", f"{model_path} holds no model of vosk, {_EXPECTED}")]
    try:
        with open(files[0], "rb"):
            missing = list(missing_words(folder, phrases))
    except OSError as error:
        return [("model_path", f"the model {model_path} cannot be read ({error.strerror}), {_EXPECTED}")]
    what = "is not in the vocabulary of the model, expected words that it knows, or a model with another vocabulary"
    return [("words", f"{word} {what}") for word in missing]


def missing_words(folder: Path, phrases: Sequence[str]) -> Iterator[str]:
    """Yield the words of the phrases that are not in the vocabulary of a model.

    Raises:
        OSError: The model cannot be read.
    """
    words = dict.fromkeys(word for phrase in phrases for word in phrase.casefold().split())
    path, is_list = _vocabulary_file(folder)
    if not path.stat().st_size:  # mmap raises ValueError for an empty file
        raise OSError(errno.ENODATA, "the vocabulary is empty", str(path))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for word in words:
            text = word.encode()
            # In a Kaldi graph the length precedes each word; in the list a number follows each word.
            pattern = b"\n" + text + b" " if is_list else struct.pack("<i", len(text)) + text
            if data.find(pattern) < 0:
                yield word


class VoskSpotter:
    """Finds phrases with a grammar for a model of vosk. Not thread-safe; owned by the recognizer thread.

    A separate thread loads the model; until then nothing is found. Measured on one x86 core: 20 to 30 ms per second of
    sound, 150 MB.

    Args:
        model_path: The directory of the model.
        phrases: The phrases.
        sensitivity: 0 to 1; 0.5 requires a confidence of 0.7, and a higher sensitivity requires less.
        renew_seconds: See ``RENEW_SECONDS``.
    """

    def __init__(
        self, model_path: str, phrases: Sequence[str], sensitivity: float, renew_seconds: float = RENEW_SECONDS
    ) -> None:
        self._path = model_path
        self._phrases = {phrase.casefold(): phrase for phrase in phrases}
        self._min_confidence = min(1.0, max(0.05, 1.2 - sensitivity))
        self._make: Callable[[], Any] = lambda: None
        self._recognizer: Any = None
        self._renew_seconds = renew_seconds
        self._failure: str | None = None
        self._fed_seconds = self._held_seconds = 0.0
        self._loader = threading.Thread(target=self._load, name="wake-model", daemon=True)
        self._loader.start()

    def wait(self, seconds: float) -> bool:
        """Return whether the model was loaded within ``seconds``."""
        self._loader.join(seconds)
        return self._recognizer is not None

    def find(self, frame: bytes) -> Spot | None:
        if self._failure is not None:
            raise AudioError(self._failure)
        recognizer = self._recognizer
        if recognizer is None:
            return None
        seconds = SPEECH.seconds_of(len(frame))
        self._fed_seconds += seconds
        if recognizer.AcceptWaveform(frame):
            spot = self._judge(recognizer.Result())
            if self._fed_seconds > self._renew_seconds:
                self._recognizer, self._fed_seconds = self._make(), 0.0
            return spot
        partial = json.loads(recognizer.PartialResult())["partial"]
        if not any(f" {phrase} " in f" {partial} " for phrase in self._phrases):
            self._held_seconds = 0.0
            return None
        self._held_seconds += seconds
        # Only the final result has the confidence and the times. It also ends the decoder's utterance.
        return self._judge(recognizer.FinalResult()) if self._held_seconds + 1e-9 >= HOLD_SECONDS else None

    def close(self, deadline: Deadline) -> None:
        """Do nothing: the model holds only memory."""

    def _judge(self, message: str) -> Spot | None:
        self._held_seconds = 0.0
        words = json.loads(message).get("result", [])
        for phrase, name in self._phrases.items():
            length = len(phrase.split())
            for start in range(len(words) - length + 1):
                found = words[start : start + length]
                if " ".join(word["word"] for word in found) == phrase:
                    confidence = min(word["conf"] for word in found)
                    after_seconds = min(_MAX_AFTER_SECONDS, max(0.0, self._fed_seconds - found[-1]["end"]))
                    return Spot(name, round(confidence, 3), confidence >= self._min_confidence, after_seconds)
        return None

    def _load(self) -> None:
        try:
            import vosk

            vosk.SetLogLevel(-1)
            model = vosk.Model(self._path)
            parts = dict.fromkeys(part for phrase in self._phrases for part in phrase.split())
            others = dict.fromkeys(each for word in similar_words(Path(self._path), list(parts)) for each in word)
            # The single words of a phrase are alternatives too: one of them alone is not the phrase.
            words = {**dict.fromkeys(self._phrases), **parts, **others, UNKNOWN: None}
            grammar = json.dumps(list(words))

            def make() -> Any:
                recognizer = vosk.KaldiRecognizer(model, SPEECH.rate, grammar)
                recognizer.SetWords(True)
                return recognizer

            self._make = make
            self._recognizer = make()
        except ImportError as error:
            self._failure = f"{error}. {_not_installed()}"
        except Exception as error:  # noqa: BLE001 - the package raises bare Exception
            self._failure = f"the model {self._path} cannot be loaded ({error}), {_EXPECTED}"


def _not_installed() -> str:
    return f"vosk is not installed. Install it: {install_command('vosk')}"


def similar_words(folder: Path, words: Sequence[str]) -> list[list[str]]:
    """Return for each word the most similarly spelled words of the vocabulary, without those that begin with the word.

    Raises:
        OSError: The model cannot be read.
    """
    pairs = {word: _pairs(word) for word in words}
    found: dict[str, list[tuple[float, str]]] = {word: [] for word in words}
    for other in _vocabulary(folder):
        if not other.isalpha():
            continue
        of_other = _pairs(other)
        for word, of_word in pairs.items():
            if abs(len(other) - len(word)) > 3 or other.startswith(word):
                continue
            similarity = 2 * len(of_word & of_other) / (len(of_word) + len(of_other))
            if similarity > _MIN_SIMILARITY:
                found[word].append((similarity, other))
    return [[other for _, other in sorted(found[word], reverse=True)[:SIMILAR_WORDS]] for word in words]


def _pairs(word: str) -> set[str]:
    padded = f"^{word}$"
    return {padded[at : at + 2] for at in range(len(padded) - 1)}


def _vocabulary_file(folder: Path) -> tuple[Path, bool]:
    """Return the file with the words of a model, and whether it is a list (``words.txt``) or a graph (``Gr.fst``)."""
    path = folder / "graph" / "words.txt"
    return (path, True) if path.is_file() else (folder / "graph" / "Gr.fst", False)


def _vocabulary(folder: Path) -> Iterator[str]:
    path, is_list = _vocabulary_file(folder)
    if is_list:
        with open(path, encoding="utf-8") as file:
            yield from (line.partition(" ")[0] for line in file)
        return
    # An OpenFst file begins with a magic number, the types of the graph and of its arcs, and 40 bytes. The symbols
    # follow: a magic number, their name, the next key, their count, and each symbol with a key of 8 bytes.
    with open(path, "rb") as file:
        file.seek(4)
        for _ in range(2):
            _read_text(file)
        file.seek(40 + 4, os.SEEK_CUR)
        _read_text(file)
        _, count = struct.unpack("<qq", file.read(16))
        for _ in range(count):
            yield _read_text(file)
            file.seek(8, os.SEEK_CUR)


def _read_text(file: Any) -> str:
    (length,) = struct.unpack("<i", file.read(4))
    return str(file.read(length), "utf-8", "replace")

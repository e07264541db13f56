"""Wake word detection: finds spoken words in microphone frames with the models of pymicro-wakeword."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from agent.errors import AudioError
from agent.system.named_tuple import NamedTuple

PACKAGE = "pymicro_wakeword"
INSTALL = 'pymicro-wakeword is not installed. Install the extra "wake": pip install "edge-voice-agent[wake]"'


class Spotter(Protocol):
    """Finds wake words in a stream of frames. Not thread-safe; owned by the recognizer thread."""

    def find(self, frame: bytes) -> str | None:
        """Return the wake word that ends in this frame.

        Args:
            frame: 16 kHz mono s16le, of any length.
        """


class Model(NamedTuple):
    """A wake word and its model file (JSON, beside its ``.tflite``). Immutable."""

    word: str
    path: Path


def find_models(words: Sequence[str], own: Sequence[str]) -> tuple[list[Model], list[str]]:
    """Find the models of wake words, without loading any.

    Args:
        words: Names of the models that the package contains.
        own: Paths of further model files.

    Returns:
        The models and one sentence for each that cannot be used.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return [], [INSTALL]
    folder = Path(spec.origin).parent / "models"
    models, problems = [], []
    for word in words:
        path = folder / f"{word}.json"
        if path.is_file():
            models.append(Model(word, path))
        else:
            known = ", ".join(sorted(each.stem for each in folder.glob("*.json")))
            problems.append(f"{word} is no wake word of {PACKAGE}, expected one of {known}, or a model in own")
    for name in own:
        try:
            described = json.loads(Path(name).read_text("utf-8"))
            weights = Path(name).parent / described["model"]
            if not weights.is_file():
                raise FileNotFoundError(f"{weights} does not exist")
            if not isinstance(described["micro"]["probability_cutoff"], int | float):
                raise TypeError("micro.probability_cutoff is no number")
            models.append(Model(str(described["wake_word"]), Path(name)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            problems.append(f"the model {name} cannot be used ({reason}), expected a microWakeWord model (.json)")
    return models, problems


class MicroSpotter:
    """Finds words with microWakeWord models. Not thread-safe; owned by the recognizer thread.

    Measured on one x86 core: 2.5 ms per second of audio and word.

    Args:
        models: The models.
        sensitivity: 0 to 1; 0.5 is the threshold of the model, and more finds more words and more false ones.

    Attributes:
        scores: The probability of each word in the last frame, 0 to 1.

    Raises:
        AudioError: A model or its library cannot be loaded.
    """

    def __init__(self, models: Sequence[Model], sensitivity: float) -> None:
        try:
            from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

            self._features: Any = MicroWakeWordFeatures()
            self._models: list[tuple[str, Any, float]] = []
            for model in models:
                loaded = MicroWakeWord.from_config(model.path)
                threshold = loaded.probability_cutoff + 0.8 * (0.5 - sensitivity)
                self._models.append((model.word, loaded, min(0.99, max(0.1, threshold))))
        except (ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
            raise AudioError(f"the wake word models cannot be loaded ({error}). {INSTALL}") from error
        self.scores: dict[str, float] = {}

    def find(self, frame: bytes) -> str | None:
        self.scores = {word: 0.0 for word, _, _ in self._models}
        found = None
        for features in self._features.process_streaming(frame):
            for word, model, threshold in self._models:
                score = model.process_streaming_prob(features) or 0.0
                self.scores[word] = max(self.scores[word], score)
                if score > threshold and found is None:
                    found = word
        if found is not None:
            self.reset()
        return found

    def reset(self) -> None:
        """Forget the audio so far, so that the same word is not found again."""
        self._features.reset()
        for _, model, _ in self._models:
            model.reset()

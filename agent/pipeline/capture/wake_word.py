"""Wake word detection: finds spoken words in microphone frames with the models of pymicro-wakeword."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.errors import AudioError
from agent.pipeline.capture.spotter import Spot
from agent.system.named_tuple import NamedTuple
from agent.system.optional_parts import install_command
from agent.system.threads import Deadline

AFTER_SECONDS = 0.2
"""Audio between the end of a word and its detection. microWakeWord reports a word 0.2 to 0.3 s after its end. A higher
value brings the end of the word into the transcript; a lower value cuts the question (measured, six voices)."""
NEAR_SHARE = 0.5
"""A score of at least this share of the threshold is a near miss."""
PACKAGE = "pymicro_wakeword"
TFLITE_IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of a model file (``file_identifier`` in the schema of TensorFlow Lite)."""


class WakeModel(NamedTuple):
    """A wake word and its model file (JSON, beside its ``.tflite``). Immutable."""

    word: str
    path: Path


def find_models(words: Sequence[str], own: Sequence[str]) -> tuple[list[WakeModel], list[str]]:
    """Find the models of wake words, without loading any.

    Args:
        words: Names of the models that the package contains.
        own: Paths of further model files.

    Returns:
        The models, and one sentence for each model that cannot be used.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return [], [_not_installed()]
    folder = Path(spec.origin).parent / "models"
    models, problems = _own_models(own)
    own_words = [model.word for model in models]
    for word in words:
        path = folder / f"{word}.json"
        if path.is_file():
            models.append(WakeModel(word, path))
        elif word not in own_words:
            known = ", ".join(sorted(each.stem for each in folder.glob("*.json")))
            problems.append(f"{word} is no wake word of {PACKAGE}, expected one of {known}, or a model in own")
    return models, problems


def _own_models(own: Sequence[str]) -> tuple[list[WakeModel], list[str]]:
    models, problems = [], []
    for name in own:
        try:
            described = json.loads(Path(name).read_text("utf-8"))
            weights = Path(name).parent / described["model"]
            if not weights.is_file():
                raise FileNotFoundError(f"{weights} does not exist")
            if not isinstance(described["micro"]["probability_cutoff"], int | float):
                raise TypeError("micro.probability_cutoff is no number")
            with weights.open("rb") as file:
                # The library does not check whether it could read the model: SIGSEGV would end the daemon.
                if file.read(8)[4:] != TFLITE_IDENTIFIER:
                    raise ValueError(f"{weights} is no TensorFlow Lite model")
            models.append(WakeModel(str(described["wake_word"]), Path(name)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            problems.append(f"the model {name} cannot be used ({reason}), expected a microWakeWord model (.json)")
    return models, problems


def _not_installed() -> str:
    return f"pymicro-wakeword is not installed. Install it: {install_command('wake-word')}"


class MicroSpotter:
    """Finds words with microWakeWord models. Not thread-safe; owned by the recognizer thread.

    Measured on one x86 core: 2.5 ms per second of audio and word.

    Args:
        models: The models.
        sensitivity: 0 to 1; 0.5 uses the threshold of the model. A higher value finds more words and more false words.
        near_share: A score of at least this share of the threshold is a near miss.

    Raises:
        AudioError: A model or its library cannot be loaded.
    """

    def __init__(self, models: Sequence[WakeModel], sensitivity: float, near_share: float = NEAR_SHARE) -> None:
        try:
            from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

            self._features: Any = MicroWakeWordFeatures()
        except (ImportError, OSError, RuntimeError) as error:
            raise AudioError(f"the wake word models cannot be loaded ({error}). {_not_installed()}") from error
        self._models: list[tuple[str, Any, float]] = []
        for model in models:
            try:
                loaded = MicroWakeWord.from_config(model.path)
                threshold = loaded.probability_cutoff + 0.8 * (0.5 - sensitivity)
            except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
                text = (
                    f"the wake word model {model.path} cannot be loaded: {error!r}. Replace it, or choose another one"
                )
                raise AudioError(text) from error
            self._models.append((model.word, loaded, min(0.99, max(0.1, threshold))))
        self._near_share = near_share
        self._peaks: dict[str, float] = {}  # near misses whose score has not fallen yet

    def find(self, frame: bytes) -> Spot | None:
        scores = {word: 0.0 for word, _, _ in self._models}
        for features in self._features.process_streaming(frame):
            for word, model, threshold in self._models:
                score = model.process_streaming_prob(features) or 0.0
                scores[word] = max(scores[word], score)
                if score > threshold:
                    self.reset()
                    return Spot(word, round(score, 3), True, AFTER_SECONDS)
        return self._near_miss(scores)

    def _near_miss(self, scores: dict[str, float]) -> Spot | None:
        """Return a near miss with its highest score when the score has fallen."""
        missed = None
        for word, _, threshold in self._models:
            if scores[word] >= self._near_share * threshold:
                self._peaks[word] = max(scores[word], self._peaks.get(word, 0.0))
            elif (peak := self._peaks.pop(word, None)) is not None:
                missed = Spot(word, round(peak, 3), is_found=False)
        return missed

    def close(self, deadline: Deadline) -> None:
        """Do nothing: the models hold only memory."""

    def reset(self) -> None:
        """Forget the audio so far, so that the same word is not found again."""
        self._peaks.clear()
        self._features.reset()
        for _, model, _ in self._models:
            model.reset()

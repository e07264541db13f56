"""Wake words in synthetic speech, with the real models."""

from __future__ import annotations

import json
from pathlib import Path

import pymicro_wakeword
import pytest
from support.human_voice import spoken

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture.wake_word import MicroSpotter, find_models

MODELS = Path(pymicro_wakeword.__file__).parent / "models"
FRAME_BYTES = SPEECH.bytes_of(0.1)


def found(spotter: MicroSpotter, pcm: bytes) -> list[str]:
    """Return the words in 16 kHz mono s16le."""
    frames = (pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm), FRAME_BYTES))
    return [spot.word for frame in frames if (spot := spotter.find(frame)) is not None and spot.is_found]


def test_word_is_found_once_in_silence() -> None:
    models, problems = find_models(["alexa", "okay_nabu"], [])
    assert problems == []
    silence = bytes(SPEECH.bytes_of(1.0))
    assert found(MicroSpotter(models, 0.5), silence + spoken("Alexa") + silence) == ["alexa"]


def test_other_words_are_not_found() -> None:
    spotter = MicroSpotter(find_models(["alexa"], [])[0], 0.5)
    assert found(spotter, spoken("the election was last week, and the electrician is Alex") + bytes(32000)) == []


def test_similar_word_is_a_near_miss_with_its_score() -> None:
    spotter = MicroSpotter(find_models(["alexa"], [])[0], 0.0, near_share=0.02)
    pcm = spoken("alexi") + bytes(32000)
    spots = [spotter.find(pcm[start : start + FRAME_BYTES]) for start in range(0, len(pcm), FRAME_BYTES)]
    missed = [spot for spot in spots if spot is not None]
    assert missed and not any(spot.is_found for spot in missed) and all(0.0 < spot.score < 1.0 for spot in missed)


def test_word_of_an_own_model_may_be_named_as_a_word() -> None:
    models, problems = find_models(["Alexa"], [str(MODELS / "alexa.json")])
    assert problems == [] and [model.word for model in models] == ["Alexa"]


def test_own_model_is_used() -> None:
    models, problems = find_models([], [str(MODELS / "alexa.json")])
    assert problems == [] and [model.word for model in models] == ["Alexa"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("not json", "JSONDecodeError"), ("[]", "TypeError"), ('{"model": "x.tflite"}', "does not exist")],
)
def test_unusable_own_model_is_one_sentence(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(content)
    models, [problem] = find_models([], [str(path)])
    assert models == [] and reason in problem and problem.endswith("expected a microWakeWord model (.json)")


def test_own_model_without_a_threshold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"")
    (tmp_path / "x.json").write_text(json.dumps({"wake_word": "x", "model": "x.tflite", "micro": {}}))
    assert "probability_cutoff" in find_models([], [str(tmp_path / "x.json")])[1][0]


@pytest.mark.parametrize("weights", [b"", b"version https://git-lfs.github.com/spec/v1"])
def test_own_model_whose_weights_are_no_model_is_refused(tmp_path: Path, weights: bytes) -> None:
    (tmp_path / "x.tflite").write_bytes(weights)
    model = {"wake_word": "x", "model": "x.tflite", "micro": {"probability_cutoff": 0.9, "sliding_window_size": 5}}
    (tmp_path / "x.json").write_text(json.dumps(model))
    models, [problem] = find_models([], [str(tmp_path / "x.json")])
    assert models == [] and "is no TensorFlow Lite model" in problem


def test_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    model = {"wake_word": "x", "model": str(MODELS / "alexa.tflite"), "micro": {"probability_cutoff": 0.9}}
    path.write_text(json.dumps(model))
    models, problems = find_models([], [str(path)])
    assert problems == []
    with pytest.raises(AudioError, match="sliding_window_size") as caught:
        MicroSpotter(models, 0.5)
    assert str(path) in str(caught.value) and "not installed" not in str(caught.value)


def test_unknown_word_names_the_known_ones() -> None:
    [problem] = find_models(["computer"], [])[1]
    assert "computer is no wake word" in problem and "alexa, hey_jarvis" in problem

"""Phrases in synthetic speech, with a grammar over a real model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.human_voice import spoken
from support.vosk_model import MODEL

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture.spotter import Spot
from agent.pipeline.capture.vosk_words import VoskSpotter, model_problems, similar_words

FRAME_BYTES = SPEECH.bytes_of(0.1)
SILENCE = bytes(SPEECH.bytes_of(1.0))
WAIT_SECONDS = 240.0  # three models are loaded


@pytest.fixture(scope="module")
def spotter() -> VoskSpotter:
    spotter = VoskSpotter(str(MODEL), ["hey Computer"], 0.5, renew_seconds=5.0)
    assert spotter.wait(WAIT_SECONDS)
    return spotter


def spots(spotter: VoskSpotter, pcm: bytes) -> list[tuple[float, Spot]]:
    """Return each spot with the position in seconds at which it was reported."""
    found = []
    for start in range(0, len(pcm), FRAME_BYTES):
        frame = pcm[start : start + FRAME_BYTES]
        if (spot := spotter.find(frame)) is not None:
            found.append((SPEECH.seconds_of(start + len(frame)), spot))
    return found


def test_phrase_is_found_once_soon_after_its_end(spotter: VoskSpotter) -> None:
    phrase = spoken("hey computer")
    [(at, spot)] = spots(spotter, SILENCE + phrase + SILENCE)
    assert spot.word == "hey Computer" and spot.is_found and spot.score >= 0.7
    end = 1.0 + SPEECH.seconds_of(len(phrase))
    assert end - 0.5 < at - spot.after_seconds < end + 0.1 and at < end + 0.6


def test_audio_after_the_phrase_is_the_question(spotter: VoskSpotter) -> None:
    [(at, spot), *_] = spots(spotter, SILENCE + spoken("hey computer, what time is it") + SILENCE)
    assert spot.is_found and 0.0 <= spot.after_seconds < 1.0 and at < 2.6


def test_other_words_are_not_found(spotter: VoskSpotter) -> None:
    pcm = spoken("hey, the commuter train was late, and my computer is off") + SILENCE
    assert not any(spot.is_found for _, spot in spots(spotter, pcm))


def test_decoder_is_replaced_in_a_pause_before_its_times_are_inexact(spotter: VoskSpotter) -> None:
    decoder = spotter._recognizer
    pcm = SILENCE + spoken("hey, the commuter train was late, and my computer is off") + SILENCE
    spots(spotter, pcm + pcm)
    assert spotter._recognizer is not decoder
    test_phrase_is_found_once_soon_after_its_end(spotter)


def test_confidence_below_the_limit_is_a_near_miss() -> None:
    strict, usual, lenient = (VoskSpotter(str(MODEL), ["computer"], sensitivity) for sensitivity in (0.0, 0.5, 1.0))
    assert strict.wait(WAIT_SECONDS) and usual.wait(60.0) and lenient.wait(60.0)
    # espeak-ng speaks these so that the model is not certain.
    pcm = b"".join(SILENCE + spoken(text, "espeak-ng") for text in ("computers", "a tutor in a pewter mug")) + SILENCE
    near = [spot for _, spot in spots(strict, pcm)]
    assert near and all(0.0 < spot.score < 1.0 and not spot.is_found for spot in near)
    assert any(spot.is_found and spot.score < 1.0 for _, spot in spots(lenient, pcm))
    other = SILENCE + spoken("the commuter train was late") + SILENCE
    assert not any(spot.is_found for _, spot in spots(usual, other))


def test_words_of_the_vocabulary_are_accepted() -> None:
    assert model_problems(str(MODEL), ["Hey Computer", "alexa"]) == []


def test_vocabulary_as_a_list_is_read(tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "am").mkdir()
    (tmp_path / "am" / "final.mdl").write_bytes(b"")
    (tmp_path / "graph" / "words.txt").write_text("<eps> 0\nhallo 1\nballon 2\nhallos 3\nrechner 4\n", encoding="utf-8")
    assert similar_words(tmp_path, ["hallo"]) == [["ballon"]]
    [(key, problem)] = model_problems(str(tmp_path), ["hallo computer"])
    assert key == "words" and problem.startswith("computer is not in the vocabulary")


@pytest.mark.parametrize(
    ("path", "words", "key", "reason"),
    [
        ("", ["computer"], "model_path", "the engine vosk needs a model"),
        ("/nonexistent", ["computer"], "model_path", "/nonexistent holds no model of vosk"),
        (str(MODEL), ["hey qwxyz"], "words", "qwxyz is not in the vocabulary"),
    ],
)
def test_unusable_model_or_word_is_one_sentence(path: str, words: list[str], key: str, reason: str) -> None:
    [(found, problem)] = model_problems(path, words)
    assert found == key and problem.startswith(reason) and "expected" in problem


@pytest.mark.parametrize("name", ["words.txt", "Gr.fst"])
def test_empty_vocabulary_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "final.mdl").write_bytes(b"")
    (tmp_path / "graph" / name).write_bytes(b"")
    [(key, problem)] = model_problems(str(tmp_path), ["computer"])
    assert key == "model_path" and "cannot be read (the vocabulary is empty), expected" in problem


def test_damaged_model_fails_with_its_path(tmp_path: Path) -> None:
    shutil.copytree(MODEL / "graph", tmp_path / "model" / "graph")
    spotter = VoskSpotter(str(tmp_path / "model"), ["computer"], 0.5)
    assert not spotter.wait(WAIT_SECONDS)
    with pytest.raises(AudioError, match=str(tmp_path)):
        spotter.find(SILENCE)

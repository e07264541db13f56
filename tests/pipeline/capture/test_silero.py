"""The neural detector: noise starts no turn, and speech of every level does."""

from __future__ import annotations

import errno
import logging
import math
import random
from array import array

import pytest
from support import noise
from support.human_voice import VOICES, spoken
from support.turns import turns

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture import silero
from agent.pipeline.capture.silero import Engine, SileroDetector, load_silero
from agent.pipeline.capture.vad import create_detector

SENTENCE = "turn on the light in the kitchen"


def at_level(sound: bytes, decibels: float) -> list[float]:
    """Scale speech so that its loud pieces of 20 ms have this level in dB of full scale."""
    samples = array("h", sound)
    pieces = [samples[start : start + 320] for start in range(0, len(samples) - 319, 320)]
    levels = [math.hypot(*piece) / math.sqrt(320) for piece in pieces]
    loud = [level for level in levels if level > max(levels) / 10]
    factor = 32768 * 10 ** (decibels / 20) / (math.hypot(*loud) / math.sqrt(len(loud)))
    return [sample * factor for sample in samples]


def staged(speech: list[float], lead_seconds: float = 1.0) -> bytes:
    return noise.pcm(noise.silence(lead_seconds) + speech + noise.silence(1.0), hiss=8)


@pytest.mark.parametrize("name", noise.SOUNDS)
def test_noise_starts_no_turn(name: str) -> None:
    assert turns(create_detector("silero"), noise.pcm(noise.SOUNDS[name]())) == []


@pytest.mark.parametrize("decibels", [-6, -20, -35, -45, -56])
def test_a_sentence_is_one_turn_at_every_level(decibels: float) -> None:
    for voice in VOICES:
        sound = staged(at_level(spoken(SENTENCE, voice), decibels))
        (turn,) = turns(create_detector("silero"), sound)
        assert turn.start < 2.0 and turn.end > SPEECH.seconds_of(len(sound)) - 1.0, voice


def test_clipped_speech_is_found() -> None:
    assert len(turns(create_detector("silero"), staged(at_level(spoken(SENTENCE), 6)))) == 1


@pytest.mark.parametrize(
    ("word", "decibels"),
    [
        ("up", -26),
        ("up", -56),
        *(pytest.param(word, level, marks=pytest.mark.slow) for word in ("no", "hey", "two") for level in (-26, -56)),
    ],
)
def test_a_short_word_is_found_at_nine_of_ten_positions(word: str, decibels: float) -> None:
    speech = at_level(spoken(word), decibels)
    found = [bool(turns(create_detector("silero"), staged(speech, 0.8 + step * 0.013))) for step in range(10)]
    assert sum(found) >= 9


@pytest.mark.parametrize("frame_seconds", [0.1, 0.25, 1.0])
def test_the_frame_length_does_not_change_what_is_found(frame_seconds: float) -> None:
    sound = staged(at_level(spoken("up"), -30)) + bytes(SPEECH.bytes_of(2.0))
    assert len(turns(create_detector("silero"), sound, frame_seconds=frame_seconds)) == 1


def test_speech_over_music_and_with_automatic_gain_is_found() -> None:
    speech = at_level(spoken(SENTENCE), -20)
    over_music = [a + b / 3 for a, b in zip(speech, noise.music(4), strict=False)]
    assert len(turns(create_detector("silero"), staged(over_music))) == 1
    pumped = noise.automatic_gain(noise.white(3, 20) + [each + random.gauss(0, 20) for each in speech])
    assert len(turns(create_detector("silero"), noise.pcm(pumped) + bytes(32000))) == 1


class CountingEngine:
    """Counts the pieces that the network gets."""

    def __init__(self) -> None:
        self.pieces = self.resets = 0

    def process_samples(self, samples: object) -> float:
        self.pieces += 1
        return 0.0

    def reset(self) -> None:
        self.resets += 1


@pytest.mark.parametrize("name", ["silence", "hiss", "white noise", "mains hum"])
def test_the_network_rarely_runs_in_silence_and_in_steady_noise(name: str) -> None:
    engine = CountingEngine()
    detector = SileroDetector(create_detector("energy"), lambda: engine)
    sounds = {"silence": bytes(SPEECH.bytes_of(5)), "hiss": noise.pcm(noise.silence(5), hiss=10)}
    sound = sounds[name] if name in sounds else noise.pcm(noise.SOUNDS[name]())
    turns(detector, sound)
    # A steady noise is sound until it fills the window of 1.8 s.
    assert engine.pieces <= (100 if name in noise.SOUNDS else 0)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), AudioError("not usable")])
def test_another_detector_decides_while_the_network_cannot_be_loaded(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [error]

    def load() -> Engine:
        if failures:
            raise failures.pop()
        return load_silero()

    detector = SileroDetector(create_detector("energy"), load)
    speech = staged(at_level(spoken(SENTENCE), -20))
    with caplog.at_level(logging.WARNING):
        assert len(turns(detector, speech)) == 1
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        # After a minute the network is loaded again: coughs start no turn any more.
        turns(detector, bytes(SPEECH.bytes_of(61)))
        assert turns(detector, noise.pcm(noise.SOUNDS["coughs"]())) == []
    assert len(caplog.records) == 1


def test_processor_without_the_instructions_of_the_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "_REQUIRED_FLAGS", frozenset({"avx9"}))
    if silero.os.uname().machine == "x86_64":
        with pytest.raises(AudioError, match="the processor lacks avx9. Use webrtc or energy"):
            load_silero()

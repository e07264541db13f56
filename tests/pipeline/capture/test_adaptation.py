"""Turns without words raise the threshold, and words or a minute return it to normal."""

from __future__ import annotations

import pytest
from support import noise
from support.human_voice import spoken
from support.turns import turns

from agent.audio.format import SPEECH
from agent.pipeline.capture.adaptation import NoiseAdaptation
from agent.pipeline.capture.energy import EnergyGate
from agent.pipeline.capture.vad import create_detector

KINDS = ["energy", "webrtc", "auto", "silero"]


class Gate(EnergyGate):
    """Records the thresholds that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.thresholds: list[tuple[float, bool]] = []

    def raise_threshold(self, decibels: float, *, learn_noise: bool = False) -> None:
        super().raise_threshold(decibels, learn_noise=learn_noise)
        self.thresholds.append((decibels, learn_noise))


def report(adaptation: NoiseAdaptation, pattern: str) -> None:
    """``w``: a turn with words, ``.``: one without, ``x``: one without that was cut."""
    for each in pattern:
        adaptation.report_segment(has_words=each == "w", is_cut=each == "x")


@pytest.mark.parametrize(
    ("pattern", "thresholds"),
    [
        (".", []),
        ("..", [6.0]),
        ("...", [6.0, 12.0]),
        ("....", [6.0, 12.0, 12.0]),
        (".w.", []),
        ("w.w.w.", []),
        ("..w", [6.0, 0.0]),
        ("...w..", [6.0, 12.0, 0.0, 6.0]),
        (".w..", [6.0]),
    ],
)
def test_two_turns_without_words_raise_the_threshold_by_6_db(pattern: str, thresholds: list[float]) -> None:
    gate = Gate()
    report(NoiseAdaptation(gate), pattern)
    assert [decibels for decibels, _ in gate.thresholds] == thresholds


def test_threshold_returns_to_normal_after_a_minute() -> None:
    gate = Gate()
    adaptation = NoiseAdaptation(gate)
    report(adaptation, "..")
    adaptation.advance(59.9)
    assert gate.is_raised
    adaptation.advance(0.2)
    assert not gate.is_raised
    report(adaptation, ".")  # the turns before are not forgotten: one more is enough
    assert gate.is_raised and gate.thresholds[-1] == (6.0, False)


@pytest.mark.parametrize(
    ("pattern", "learns"), [("xx", True), ("x.", False), (".x", False), ("..", False), ("xwxx", True), ("xxx", True)]
)
def test_only_a_sound_without_pauses_becomes_noise(pattern: str, learns: bool) -> None:
    gate = Gate()
    report(NoiseAdaptation(gate), pattern)
    assert gate.thresholds[-1][1] is learns


def test_each_step_needs_a_louder_sound() -> None:
    gate = EnergyGate()
    for decibels, needed in ((0.0, 7.5), (6.0, 13.5), (12.0, 19.5), (0.0, 7.5)):
        gate.raise_threshold(decibels)
        for above in (needed - 1.0, needed + 1.0):
            fresh = EnergyGate()
            fresh.raise_threshold(decibels)
            level = 10 ** ((26 + above) / 20)  # 26 dB is the floor of silence
            sound = noise.pcm(noise.white(0.02, level), hiss=0)
            assert fresh.is_loud(sound) is (above > needed), (decibels, above)


@pytest.mark.parametrize("kind", ["energy", "webrtc"])
@pytest.mark.parametrize("name", ["alarm", "music"])
def test_a_sound_without_pauses_holds_at_most_two_turns(kind: str, name: str) -> None:
    sound = noise.pcm({"alarm": noise.beeps, "music": noise.music}[name](12)) * 2
    found = turns(create_detector(kind), sound, turn_seconds=4.0, has_words=False)
    assert sum(turn.end - turn.start for turn in found) < 10
    assert not [turn for turn in found if turn.start > 9 and turn.end - turn.start > 1]


@pytest.mark.parametrize("kind", KINDS)
def test_speech_without_words_does_not_hold_turns_again_and_again(kind: str) -> None:
    """A television in a language that the service does not recognize."""
    talk = spoken("this is the news of today and the weather for the rest of the week and the traffic")
    sound = talk * (round(SPEECH.bytes_of(30) / len(talk)) + 1)
    found = turns(create_detector(kind), sound, turn_seconds=4.0, has_words=False)
    assert 0 < sum(turn.end - turn.start for turn in found if turn.end < 31) < 15


@pytest.mark.parametrize("kind", KINDS)
def test_speech_above_the_noise_is_found_after_turns_without_words(kind: str) -> None:
    detector = create_detector(kind)
    for _ in range(4):
        detector.report_segment(has_words=False, is_cut=False)
    hiss = noise.pcm(noise.silence(2), hiss=20)
    assert len(turns(detector, hiss + spoken("turn on the light in the kitchen") + hiss)) == 1

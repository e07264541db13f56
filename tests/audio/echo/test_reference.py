from __future__ import annotations

import pytest

from agent.audio.echo.reference import LEAD_SECONDS, MAX_CORRECTION_PPM, MIN_CORRECTION_PPM, EchoReference
from agent.audio.format import SPEECH


def test_audio_that_the_card_drops_after_it_was_read_is_counted_once() -> None:
    reference = EchoReference()
    reference.note_written(b"\x01\x02" * SPEECH.rate, SPEECH, 1.0)
    reference.captured(SPEECH.rate // 2, 0.5)
    reference.read(SPEECH.rate // 2 - 320, 320)  # up to 0.5 s, and the lead
    assert reference.unplayed_samples == 0
    reference.dropped(0.501)
    assert reference.read(SPEECH.rate // 2, 320) is None
    assert reference.unplayed_samples == pytest.approx((LEAD_SECONDS - 0.001) * SPEECH.rate, abs=2)
    reference.read(SPEECH.rate // 2 + 320, 320)
    assert reference.unplayed_samples == 0


def two_clocks(ppm: float, seconds: float) -> EchoReference:
    """Return a reference with exact readings of both clocks."""
    reference = EchoReference()
    for step in range(1, round(seconds * 10) + 1):
        reference.note_written(bytes(SPEECH.bytes_of(0.1)), SPEECH, step * 0.1 / (1 + ppm * 1e-6))
        reference.captured(step * SPEECH.rate // 10, step * 0.1)
    return reference


def test_echo_corrects_the_drift_that_the_clocks_say() -> None:
    reference = two_clocks(100.0, 5.0)
    assert reference.drift_ppm == pytest.approx(100.0, abs=0.5)
    reference.correct_drift(6.0)
    assert reference.drift_ppm == pytest.approx(106.0, abs=0.5)
    reference.correct_drift(-1000.0)
    assert reference.drift_ppm == pytest.approx(100.0 - MAX_CORRECTION_PPM, abs=0.5)


def test_small_correction_does_not_make_one_clock_two() -> None:
    reference = two_clocks(0.0, 5.0)
    reference.correct_drift(MIN_CORRECTION_PPM - 1.0)
    assert reference.drift_ppm == 0.0
    reference.correct_drift(2.0)
    assert reference.drift_ppm == MIN_CORRECTION_PPM + 1.0


def test_drift_is_corrected_only_once_the_clocks_know_it() -> None:
    reference = two_clocks(100.0, 0.5)
    reference.correct_drift(6.0)
    assert reference.drift_ppm is None
    for step in range(6, 51):
        reference.note_written(bytes(SPEECH.bytes_of(0.1)), SPEECH, step * 0.1 / (1 + 100e-6))
        reference.captured(step * SPEECH.rate // 10, step * 0.1)
    assert reference.drift_ppm == pytest.approx(100.0, abs=0.5)


def test_time_before_the_card_plays_does_not_count() -> None:
    """The first readings say that the card plays, although it waits for a full period."""
    reference = EchoReference()
    audio = bytes(range(256)) * 25  # 0.2 s
    for ends_at in (0.19, 0.39):
        reference.note_written(audio, SPEECH, ends_at)
    for step in range(3, 31):
        reference.note_written(audio, SPEECH, 0.2 * step)
    for step in range(1, 31):
        reference.captured(step * SPEECH.rate // 5, step * 0.2)
    position = round((0.1 - LEAD_SECONDS) * SPEECH.rate)
    assert reference.read(position, 320) == audio[3200:3840]
    assert reference.drift_ppm == pytest.approx(0.0, abs=0.1)

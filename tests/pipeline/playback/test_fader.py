"""Fader: exact output at full volume, and ramps instead of steps."""

from __future__ import annotations

import random
from array import array

import pytest

from agent.audio.format import Format
from agent.pipeline.playback.fader import FADE_SECONDS, Fader, ramp

FORMAT = Format(16000)
PERIOD = FORMAT.bytes_of(0.02)


def noise(seconds: float, seed: int = 1) -> bytes:
    source = random.Random(seed)
    return array("h", [source.randint(-20000, 20000) for _ in range(round(seconds * 16000))]).tobytes()


def steady(seconds: float, channels: int = 1) -> bytes:
    return array("h", [10000] * (round(seconds * 16000) * channels)).tobytes()


def largest_step(pcm: bytes, channels: int = 1) -> int:
    """Return the largest step between two samples of one channel, with silence around them."""
    found = 0
    for channel in range(channels):
        samples = [0, *array("h", pcm)[channel::channels], 0]
        found = max(found, max(abs(b - a) for a, b in zip(samples, samples[1:], strict=False)))
    return found


@pytest.mark.parametrize("seconds", [0.0001, 0.001, 0.005, 0.01, 1.003])
def test_output_equals_input_at_100_percent(seconds: float) -> None:
    fader, sound = Fader(FORMAT), noise(seconds)
    out = b"".join(fader.feed(sound[start : start + PERIOD], 100) for start in range(0, len(sound), PERIOD))
    assert out + fader.finish() == sound
    assert fader.finish() == b""


def test_50_percent_halves_every_sample() -> None:
    fader = Fader(FORMAT)
    assert array("h", fader.feed(steady(0.02), 50) + fader.finish()) == array("h", [5000] * 320)


@pytest.mark.parametrize("channels", [1, 2])
def test_volume_change_is_a_ramp_over_one_piece(channels: int) -> None:
    format = Format(16000, channels)
    fader = Fader(format)
    out = fader.feed(steady(0.02, channels), 0) + fader.feed(steady(0.02, channels), 100)
    out += fader.feed(steady(0.02, channels), 100) + fader.feed(steady(0.02, channels), 0) + fader.finish()
    samples = array("h", out)
    assert len(samples) == 4 * 320 * channels
    assert samples[320 * channels - 1] == 0 and samples[640 * channels] == 10000 and samples[-1] == 0
    assert largest_step(out, channels) <= 10000 / 320 + 1


def test_pause_fades_out_and_the_next_piece_fades_in() -> None:
    fader = Fader(FORMAT)
    before = fader.feed(steady(0.02), 100) + fader.pause()
    after = fader.feed(steady(0.02), 100)
    assert len(before) == PERIOD and largest_step(before) == 10000, "only the start of the utterance is a step"
    assert array("h", before)[-1] == 0 and abs(array("h", after)[0]) <= 10000 / (FADE_SECONDS * 16000) + 1
    assert array("h", before)[: 320 - 80] == array("h", [10000] * 240), "only the last few milliseconds change"
    assert array("h", fader.feed(b"", 100) + fader.finish())[-1] == 10000


def test_volume_after_silence_is_the_new_one_at_once() -> None:
    fader = Fader(FORMAT)
    assert fader.feed(steady(0.02), 0) + fader.pause() == bytes(PERIOD)
    fader.feed(steady(0.02), 100)
    assert any(fader.pause())
    assert not any(fader.feed(steady(0.02), 0) + fader.finish()), "it was muted in the pause"


def test_incomplete_sample_is_kept() -> None:
    assert ramp(b"\x01", 0.0, 1.0, 1) == b"\x01"
    fader = Fader(FORMAT)
    assert fader.feed(b"abc", 100) + fader.finish() == b"abc"

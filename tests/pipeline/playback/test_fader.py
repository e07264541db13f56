"""The speaker's loudness: nothing is changed that need not be, and no change is a jump."""

from __future__ import annotations

import random
from array import array

import pytest

from agent.audio.format import Format
from agent.pipeline.playback.fader import FADE_SECONDS, Fader, ramp

FORMAT = Format(16000)
PERIOD = FORMAT.bytes_of(0.02)


def noise(seconds: float, seed: int = 1) -> bytes:
    made = random.Random(seed)
    return array("h", [made.randint(-20000, 20000) for _ in range(round(seconds * 16000))]).tobytes()


def steady(seconds: float, channels: int = 1) -> bytes:
    return array("h", [10000] * (round(seconds * 16000) * channels)).tobytes()


def jumps(pcm: bytes, channels: int = 1) -> int:
    """The largest step between two samples of one channel, silence before and behind."""
    found = 0
    for channel in range(channels):
        samples = [0, *array("h", pcm)[channel::channels], 0]
        found = max(found, max(abs(b - a) for a, b in zip(samples, samples[1:], strict=False)))
    return found


@pytest.mark.parametrize("seconds", [0.0001, 0.001, 0.005, 0.01, 1.003])
def test_at_full_loudness_what_goes_in_comes_out(seconds: float) -> None:
    gain, sound = Fader(FORMAT, 100), noise(seconds)
    out = b"".join(gain.feed(sound[start : start + PERIOD], 100) for start in range(0, len(sound), PERIOD))
    assert out + gain.finish() == sound
    assert gain.finish() == b""


def test_half_the_loudness_is_half_of_every_sample() -> None:
    gain = Fader(FORMAT, 50)
    assert array("h", gain.feed(steady(0.02), 50) + gain.finish()) == array("h", [5000] * 320)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_change_of_the_volume_is_a_ramp_over_one_period(channels: int) -> None:
    format = Format(16000, channels)
    gain = Fader(format, 0)
    out = gain.feed(steady(0.02, channels), 0) + gain.feed(steady(0.02, channels), 100)
    out += gain.feed(steady(0.02, channels), 100) + gain.feed(steady(0.02, channels), 0) + gain.finish()
    samples = array("h", out)
    assert len(samples) == 4 * 320 * channels
    assert samples[320 * channels - 1] == 0 and samples[640 * channels] == 10000 and samples[-1] == 0
    assert jumps(out, channels) <= 10000 / 320 + 1


def test_what_breaks_off_is_faded_out_and_what_follows_is_faded_in() -> None:
    gain = Fader(FORMAT, 100)
    before = gain.feed(steady(0.02), 100) + gain.pause()
    after = gain.feed(steady(0.02), 100)
    assert len(before) == PERIOD and jumps(before) == 10000, "only the beginning of the utterance is a step"
    assert array("h", before)[-1] == 0 and abs(array("h", after)[0]) <= 10000 / (FADE_SECONDS * 16000) + 1
    assert array("h", before)[: 320 - 80] == array("h", [10000] * 240), "only the last few milliseconds are touched"
    assert array("h", gain.feed(b"", 100) + gain.finish())[-1] == 10000


def test_an_odd_end_is_kept_as_it_is() -> None:
    assert ramp(b"\x01", 0.0, 1.0, 1) == b"\x01"
    gain = Fader(FORMAT, 100)
    assert gain.feed(b"abc", 100) + gain.finish() == b"abc"

"""Conversions: the resampler's length, delay and purity; volume, channels and level."""

import math
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.convert import Resampler, measure_level, scale, to_mono, to_stereo
from agent.errors import AudioError

LOUD = 16000
RATES = [(24000, 48000), (22050, 48000), (44100, 16000), (48000, 16000), (48000, 44100), (16000, 48000)]
PCM = st.lists(st.integers(-32768, 32767), max_size=50).map(lambda samples: array("h", samples).tobytes())


def sine(rate: int, count: int, hertz: float = 1000) -> list[float]:
    return [LOUD * math.sin(2 * math.pi * hertz * i / rate) for i in range(count)]


def tone(rate: int, count: int, hertz: float = 1000) -> bytes:
    return array("h", map(round, sine(rate, count, hertz))).tobytes()


def resampled(resampler: Resampler, pcm: bytes, piece: int = 1000) -> bytes:
    ready = b"".join(resampler.feed(pcm[start : start + piece]) for start in range(0, len(pcm), piece))
    return ready + resampler.finish()


def decibels_over_the_rest(pcm: bytes, rate: int) -> float:
    """How far a 1 kHz tone that begins with the first sample is above all that is not that very tone, in dB."""
    samples = array("h", pcm)
    ideal = sine(rate, len(samples))
    edge = rate // 50  # where the tone begins and ends abruptly there is no pure tone
    inner = range(edge, len(samples) - edge)
    rest = sum((samples[i] - ideal[i]) ** 2 for i in inner)
    return 10 * math.log10(sum(ideal[i] ** 2 for i in inner) / rest)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_a_tone_stays_80_db_above_the_rest_and_is_not_delayed(from_rate: int, to_rate: int) -> None:
    out = resampled(Resampler(from_rate, to_rate), tone(from_rate, from_rate))
    assert len(out) == 2 * to_rate
    assert decibels_over_the_rest(out, to_rate) > 80


def test_what_the_lower_rate_cannot_hold_does_not_come_back_as_another_tone() -> None:
    out = resampled(Resampler(48000, 16000), tone(48000, 48000, 10000))
    assert measure_level(out[640:-640])[0] < LOUD / 3000


def test_both_channels_are_kept_apart() -> None:
    count = 24000
    left, right = array("h", tone(24000, count)), array("h", bytes(2 * count))
    both = array("h", bytes(4 * count))
    both[::2], both[1::2] = left, right
    out = array("h", resampled(Resampler(24000, 48000, 2), both.tobytes(), piece=999))
    assert len(out) == 2 * 48000
    assert decibels_over_the_rest(out[::2].tobytes(), 48000) > 80
    assert not any(out[1::2])


@given(
    st.sampled_from([*RATES, (8000, 48000), (48000, 8000), (11025, 44100)]),
    st.integers(0, 5000),
    st.lists(st.integers(1, 3000), min_size=1, max_size=10),
    st.sampled_from([1, 2]),
)
@settings(max_examples=80, deadline=None)
def test_the_length_is_right_and_the_pieces_do_not_matter(
    rates: tuple[int, int], count: int, cuts: list[int], channels: int
) -> None:
    pcm = array("h", [(i * 7919) % 20001 - 10000 for i in range(count * channels)]).tobytes()
    whole = resampled(Resampler(*rates, channels), pcm, piece=len(pcm) or 1)
    resampler = Resampler(*rates, channels)
    start, out = 0, b""
    for cut in cuts:
        out += resampler.feed(pcm[start : start + cut])
        start += cut
    out += resampler.feed(pcm[start:]) + resampler.finish()
    assert out == whole
    assert abs(len(out) // (2 * channels) - count * rates[1] / rates[0]) <= 1
    assert len(out) % (2 * channels) == 0


def test_a_finished_resampler_is_as_new() -> None:
    resampler = Resampler(22050, 48000)
    first = resampled(resampler, tone(22050, 3000))
    assert resampled(resampler, tone(22050, 3000)) == first
    assert resampler.finish() == b""


def test_what_is_ready_lags_at_most_5_ms_behind() -> None:
    for from_rate, to_rate in RATES:
        ready = Resampler(from_rate, to_rate).feed(tone(from_rate, from_rate // 10))
        assert len(ready) / 2 / to_rate > 0.095


def test_equal_rates_pass_through_untouched() -> None:
    resampler = Resampler(24000, 24000)
    assert resampler.feed(b"odd") == b"odd"
    assert resampler.finish() == b""


def test_ten_thousand_resamplers_leave_no_memory_behind() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    def use(times: int) -> None:
        for _ in range(times):
            Resampler(24000, 48000).feed(bytes(100))

    use(1000)
    before = resident()
    use(10000)
    assert resident() - before < 500  # pages of 4 KiB; each state that was kept would be a page or more


@pytest.mark.parametrize(("rates", "words"), [((0, 16000), "0 Hz"), ((16000, 10**9), "1000000000 Hz")])
def test_a_rate_that_cannot_be_is_refused_in_a_sentence(rates: tuple[int, int], words: str) -> None:
    with pytest.raises(AudioError, match=words):
        Resampler(*rates)
    with pytest.raises(AudioError, match="cannot be made into"):
        Resampler(16000, 24000, quality=99)


def test_a_missing_library_is_told_with_its_package(tmp_path: Path) -> None:
    """A damaged library found before the real one stands for a missing one."""
    (tmp_path / "libspeexdsp.so.1").write_bytes(b"damaged")
    run = subprocess.run(
        [sys.executable, "-c", "from agent.audio.convert import Resampler; Resampler(24000, 48000)"],
        env={"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("agent.errors.AudioError: sound must change its rate, but libspeexdsp.so.1 cannot be loaded")
    assert last.endswith("install the package libspeexdsp1")


# --- volume


@given(PCM, st.integers(0, 400))
def test_volume_is_the_percentage_clipped_and_never_wrapped(pcm: bytes, percent: int) -> None:
    for before, after in zip(array("h", pcm), array("h", scale(pcm, percent)), strict=True):
        assert abs(after - max(-32768, min(32767, before * percent / 100))) <= 0.5


def test_full_volume_passes_through_untouched_and_none_is_silence() -> None:
    pcm = tone(16000, 100)
    assert scale(pcm, 100) is pcm
    assert scale(pcm, 0) == bytes(200)


# --- channels


@given(PCM)
def test_mono_made_stereo_and_back_is_the_same(pcm: bytes) -> None:
    both = to_stereo(pcm)
    assert array("h", both)[::2] == array("h", both)[1::2] == array("h", pcm)
    assert to_mono(both, 2) == pcm
    assert to_mono(pcm, 1) is pcm


def test_mono_is_the_mean_of_the_channels() -> None:
    assert array("h", to_mono(array("h", [100, 300, -32768, -32768, 32767, 32767]).tobytes(), 2)).tolist() == [
        200,
        -32768,
        32767,
    ]
    assert array("h", to_mono(array("h", [3, 6, 9, 32767, 32767, 32767]).tobytes(), 3)).tolist() == [6, 32767]


# --- level


def test_the_level_of_a_tone_is_its_peak_and_that_over_the_root_of_two() -> None:
    rms, peak = measure_level(tone(16000, 16000))
    assert peak == LOUD
    assert rms == pytest.approx(LOUD / math.sqrt(2), rel=1e-3)


def test_the_level_of_the_extremes_and_of_nothing() -> None:
    assert measure_level(array("h", [-32768, -32768]).tobytes()) == (32768.0, 32768)
    assert measure_level(bytes(3200)) == (0.0, 0)
    assert measure_level(b"") == (0.0, 0)


def test_a_fragment_of_a_sample_is_dropped_and_breaks_nothing() -> None:
    odd = array("h", [100, 200]).tobytes() + b"\x01"
    assert array("h", scale(odd, 50)).tolist() == [50, 100]
    assert array("h", to_mono(odd, 2)).tolist() == [150]
    assert len(to_stereo(odd)) == 8
    assert measure_level(odd)[1] == 200

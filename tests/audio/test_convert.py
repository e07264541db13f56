"""Conversions: length, delay and purity of the resampler; gain, channels, level and format."""

import math
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.machine import resident_kib

from agent.audio.convert import FormatConverter, MonoMixer, Resampler, measure_level, scale, to_mono, to_stereo
from agent.audio.format import Format
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
    """Return the level of a 1 kHz tone, which starts with the first sample, over everything else in dB."""
    samples = array("h", pcm)
    ideal = sine(rate, len(samples))
    edge = rate // 50  # where the tone begins and ends abruptly there is no pure tone
    inner = range(edge, len(samples) - edge)
    rest = sum((samples[i] - ideal[i]) ** 2 for i in inner)
    return 10 * math.log10(sum(ideal[i] ** 2 for i in inner) / rest)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_resampled_tone_is_80_db_above_noise_and_not_delayed(from_rate: int, to_rate: int) -> None:
    out = resampled(Resampler(from_rate, to_rate), tone(from_rate, from_rate))
    assert len(out) == 2 * to_rate
    assert decibels_over_the_rest(out, to_rate) > 80


def test_resampler_does_not_alias() -> None:
    out = resampled(Resampler(48000, 16000), tone(48000, 48000, 10000))
    assert measure_level(out[640:-640])[0] < LOUD / 3000


def test_resampler_keeps_channels_separate() -> None:
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
def test_resampler_output_has_the_exact_length_for_any_split(
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


def test_resampler_can_be_reused_after_finish() -> None:
    resampler = Resampler(22050, 48000)
    first = resampled(resampler, tone(22050, 3000))
    assert resampled(resampler, tone(22050, 3000)) == first
    assert resampler.finish() == b""


def test_resampler_lags_at_most_5_ms() -> None:
    for from_rate, to_rate in RATES:
        ready = Resampler(from_rate, to_rate).feed(tone(from_rate, from_rate // 10))
        assert len(ready) / 2 / to_rate > 0.095


def test_resampler_passes_equal_rates_through() -> None:
    resampler = Resampler(24000, 24000)
    assert resampler.feed(b"odd") == b"odd"
    assert resampler.finish() == b""


def test_ten_thousand_resamplers_leak_no_memory() -> None:
    def use(times: int) -> None:
        for _ in range(times):
            Resampler(24000, 48000).feed(bytes(100))

    use(1000)
    before = resident_kib()
    use(10000)
    assert resident_kib() - before < 2000  # each state that was kept would be a page of 4 KiB or more


@pytest.mark.parametrize(("rates", "words"), [((0, 16000), "0 Hz"), ((16000, 10**9), "1000000000 Hz")])
def test_resampler_rejects_impossible_rates(rates: tuple[int, int], words: str) -> None:
    with pytest.raises(AudioError, match=words):
        Resampler(*rates)
    with pytest.raises(AudioError, match="cannot convert audio from 16000 Hz to 24000 Hz"):
        Resampler(16000, 24000, quality=99)


def test_missing_library_error_names_its_package(tmp_path: Path) -> None:
    """A damaged library earlier in the search path stands for a missing one."""
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
    assert last.startswith("agent.errors.AudioError: cannot change the sample rate: libspeexdsp.so.1 cannot be loaded")
    assert last.endswith("Install the package libspeexdsp1.")


# --- volume


@given(PCM, st.integers(0, 400))
def test_scale_clips_and_never_wraps(pcm: bytes, percent: int) -> None:
    for before, after in zip(array("h", pcm), array("h", scale(pcm, percent)), strict=True):
        assert abs(after - max(-32768, min(32767, before * percent / 100))) <= 0.5


def test_scale_passes_100_percent_through_and_returns_silence_for_0() -> None:
    pcm = tone(16000, 100)
    assert scale(pcm, 100) is pcm
    assert scale(pcm, 0) == bytes(200)


# --- channels


@given(PCM)
def test_to_mono_inverts_to_stereo(pcm: bytes) -> None:
    both = to_stereo(pcm)
    assert array("h", both)[::2] == array("h", both)[1::2] == array("h", pcm)
    assert to_mono(both, 2) == pcm
    assert to_mono(pcm, 1) is pcm


def interleaved(*channels: bytes) -> bytes:
    samples = [array("h", channel) for channel in channels]
    return array("h", [sample for frame in zip(*samples, strict=True) for sample in frame]).tobytes()


def inverted(pcm: bytes) -> bytes:
    return array("h", [-sample for sample in array("h", pcm)]).tobytes()


@pytest.mark.parametrize("others", [(), ("silence",), ("silence", "silence")])
@pytest.mark.parametrize("level", [1.0, 0.9])
def test_channels_of_opposite_phase_are_not_canceled(others: tuple[str, ...], level: float) -> None:
    voice = tone(16000, 1600)
    opposite = array("h", [round(-level * sample) for sample in array("h", voice)]).tobytes()
    mixer = MonoMixer()
    pcm = interleaved(voice, opposite, *(bytes(len(voice)) for _ in others))
    assert mixer.feed(pcm, 2 + len(others)) == voice
    assert mixer.feed(pcm, 2 + len(others)) == voice


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_that_do_not_cancel_each_other_become_their_mean(channels: int) -> None:
    voice = tone(16000, 1600)
    same = interleaved(*[voice] * channels)
    one = interleaved(voice, *[bytes(len(voice))] * (channels - 1))
    for pcm in (same, one, bytes(len(same))):
        assert MonoMixer().feed(pcm, channels) == to_mono(pcm, channels)


def test_the_mean_returns_when_the_channels_do_not_cancel_each_other_any_more() -> None:
    voice = tone(16000, 1600)
    mixer = MonoMixer()
    assert mixer.feed(interleaved(voice, inverted(voice)), 2) == voice
    assert mixer.feed(bytes(2 * len(voice)), 2) == bytes(len(voice))
    assert mixer.feed(interleaved(voice, voice), 2) == voice
    assert mixer.feed(interleaved(voice, bytes(len(voice))), 2) == to_mono(interleaved(voice, bytes(len(voice))), 2)


def test_to_mono_returns_the_mean_of_the_channels() -> None:
    assert array("h", to_mono(array("h", [100, 300, -32768, -32768, 32767, 32767]).tobytes(), 2)).tolist() == [
        200,
        -32768,
        32767,
    ]
    assert array("h", to_mono(array("h", [3, 6, 9, 32767, 32767, 32767]).tobytes(), 3)).tolist() == [6, 32767]


# --- level


def test_measure_level_of_a_tone() -> None:
    rms, peak = measure_level(tone(16000, 16000))
    assert peak == LOUD
    assert rms == pytest.approx(LOUD / math.sqrt(2), rel=1e-3)


def test_measure_level_of_extremes_and_of_no_samples() -> None:
    assert measure_level(array("h", [-32768, -32768]).tobytes()) == (32768.0, 32768)
    assert measure_level(bytes(3200)) == (0.0, 0)
    assert measure_level(b"") == (0.0, 0)


def test_incomplete_samples_are_dropped() -> None:
    odd = array("h", [100, 200]).tobytes() + b"\x01"
    assert array("h", scale(odd, 50)).tolist() == [50, 100]
    assert array("h", to_mono(odd, 2)).tolist() == [150]
    assert len(to_stereo(odd)) == 8
    assert measure_level(odd)[1] == 200


@pytest.mark.parametrize("source", [Format(44100, 2), Format(8000), Format(24000), Format(48000, 2)])
@pytest.mark.parametrize("target", [Format(24000), Format(24000, 2)])
def test_format_converter_keeps_the_duration(source: Format, target: Format) -> None:
    fit = FormatConverter(source, target)
    second = bytes(source.bytes_of(1.0))
    pcm = b"".join(fit.feed(second[at : at + 4000]) for at in range(0, len(second), 4000)) + fit.finish()
    assert len(pcm) == target.bytes_of(1.0)


def test_format_converter_mixes_and_upmixes_channels() -> None:
    mono = bytes(range(200))
    assert FormatConverter(Format(16000), Format(16000, 2)).feed(mono) == to_stereo(mono)
    assert FormatConverter(Format(16000, 2), Format(16000)).feed(to_stereo(mono)) == mono


def test_format_converter_rejects_more_than_two_target_channels() -> None:
    with pytest.raises(AudioError, match="mono or stereo"):
        FormatConverter(Format(16000), Format(16000, 6))

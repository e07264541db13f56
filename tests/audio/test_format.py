"""The format: bytes and seconds, always in whole samples of every channel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.format import SPEECH, Format
from agent.errors import AudioError


def test_speech_is_16_khz_mono() -> None:
    assert (SPEECH.rate, SPEECH.channels, SPEECH.frame_bytes) == (16000, 1, 2)
    assert SPEECH.bytes_of(0.1) == 3200
    assert SPEECH.seconds_of(32000) == 1.0


@given(st.integers(8000, 48000), st.integers(1, 2), st.floats(0, 60))
def test_bytes_of_a_duration_are_whole_samples_of_every_channel(rate: int, channels: int, seconds: float) -> None:
    form = Format(rate, channels)
    nbytes = form.bytes_of(seconds)
    assert nbytes % form.frame_bytes == 0
    assert abs(form.seconds_of(nbytes) - seconds) <= 1 / rate


@pytest.mark.parametrize(
    ("rate", "channels"), [(0, 1), (1, 1), (-8000, 1), (4_000_000_000, 1), (16000, 0), (16000, 64)]
)
def test_a_format_no_card_has_is_refused_in_a_sentence(rate: int, channels: int) -> None:
    with pytest.raises(AudioError, match=f"{rate} Hz with {channels} channels cannot be handled: use"):
        Format(rate, channels)


def test_a_format_reads_well_in_a_sentence() -> None:
    assert str(Format(44100, 2)) == "44100 Hz stereo"
    assert str(Format(16000)) == "16000 Hz mono"
    assert str(Format(48000, 6)) == "48000 Hz 6 channels"

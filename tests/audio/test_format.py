"""Format: bytes and seconds, always in whole frames."""

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
def test_bytes_of_returns_whole_frames(rate: int, channels: int, seconds: float) -> None:
    form = Format(rate, channels)
    nbytes = form.bytes_of(seconds)
    assert nbytes % form.frame_bytes == 0
    assert abs(form.seconds_of(nbytes) - seconds) <= 1 / rate


@pytest.mark.parametrize(
    ("rate", "channels"), [(0, 1), (1, 1), (-8000, 1), (4_000_000_000, 1), (16000, 0), (16000, 64)]
)
def test_format_out_of_range_raises_an_error(rate: int, channels: int) -> None:
    with pytest.raises(AudioError, match=f"{rate} Hz with {channels} channels"):
        Format(rate, channels)


def test_str_names_rate_and_channels() -> None:
    assert str(Format(44100, 2)) == "44100 Hz stereo"
    assert str(Format(16000)) == "16000 Hz mono"
    assert str(Format(48000, 6)) == "48000 Hz 6 channels"

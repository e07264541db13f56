"""Sound of one format in another: as long as before, on as many channels as wanted."""

from __future__ import annotations

import pytest

from agent.audio.convert import FormatConverter, to_stereo
from agent.audio.format import Format
from agent.errors import AudioError


@pytest.mark.parametrize("source", [Format(44100, 2), Format(8000), Format(24000), Format(48000, 2)])
@pytest.mark.parametrize("wanted", [Format(24000), Format(24000, 2)])
def test_a_second_stays_a_second(source: Format, wanted: Format) -> None:
    """The second session of an utterance came at another rate, and was played at the speed of the first."""
    fit = FormatConverter(source, wanted)
    second = bytes(source.bytes_of(1.0))
    pcm = b"".join(fit.feed(second[at : at + 4000]) for at in range(0, len(second), 4000)) + fit.finish()
    assert len(pcm) == wanted.bytes_of(1.0)


def test_channels_are_mixed_and_spread_without_a_change_of_rate() -> None:
    mono = bytes(range(200))
    assert FormatConverter(Format(16000), Format(16000, 2)).feed(mono) == to_stereo(mono)
    assert FormatConverter(Format(16000, 2), Format(16000)).feed(to_stereo(mono)) == mono


def test_channels_nobody_can_make_are_told_in_a_sentence() -> None:
    with pytest.raises(AudioError, match="one format is expected"):
        FormatConverter(Format(16000), Format(16000, 6))

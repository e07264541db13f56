from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from support.agent_fixtures import write_wav

from agent.audio.format import Format
from agent.pipeline.settings import CHIMES
from agent.pipeline.tts.chime import NOTES, PAUSE_SECONDS, chime_pcm, wake_sound

FORMAT = Format(22050)


def test_every_name_of_the_configuration_has_notes() -> None:
    assert set(CHIMES) == set(NOTES)


@pytest.mark.parametrize("name", CHIMES)
def test_chime_is_audible_not_clipped_and_starts_and_ends_without_a_click(name: str) -> None:
    samples = array("h", chime_pcm(name, FORMAT))
    assert 0.3 < len(samples) / FORMAT.rate < 2.0
    assert 4000 < max(map(abs, samples)) < 32000
    assert max(abs(sample) for sample in samples[:5]) < 1000
    assert set(samples[-FORMAT.bytes_of(PAUSE_SECONDS) // 2 :]) == {0}
    assert max(abs(b - a) for a, b in zip(samples, samples[1:], strict=False)) < 8000


def test_chime_has_the_format_of_the_speech() -> None:
    stereo = array("h", chime_pcm("ding", Format(48000, 2)))
    assert stereo[0::2] == stereo[1::2]
    assert len(stereo) == 2 * len(chime_pcm("ding", Format(48000))) // 2


def test_chime_from_a_file_is_converted_and_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_wav(tmp_path / "bell.wav", b"\x10\x27" * 8000, rate=8000)
    pcm = chime_pcm(f"file:{tmp_path}/bell.wav", FORMAT)
    assert len(pcm) == FORMAT.bytes_of(1.0) + FORMAT.bytes_of(PAUSE_SECONDS)
    write_wav(tmp_path / "long.wav", bytes(2 * 8000 * 11), rate=8000)
    assert len(chime_pcm(f"file:{tmp_path}/long.wav", FORMAT)) == FORMAT.bytes_of(10.0) + FORMAT.bytes_of(PAUSE_SECONDS)
    assert "cut" in caplog.text


def test_chime_from_a_file_that_is_gone_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert chime_pcm("none", FORMAT) == b""
    assert chime_pcm(f"file:{tmp_path}/missing.wav", FORMAT) == b""
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_wake_sound_is_short_audible_and_without_a_click() -> None:
    samples = array("h", wake_sound(FORMAT))
    assert round(len(samples) / FORMAT.rate, 3) == 0.15
    assert 4000 < max(map(abs, samples)) < 32000 and max(map(abs, [*samples[:5], *samples[-5:]])) < 1000

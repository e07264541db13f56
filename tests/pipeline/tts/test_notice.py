"""The sound for an outage: a tone always, and the prepared sentence where it fits."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from agent.audio.format import Format
from agent.pipeline.tts.notice import PAUSE_SECONDS, TONE_FORMAT, notice_audio, tone
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey, encode

KEY = PhraseKey("notice", "", "No speech.")


@pytest.mark.parametrize("format", [TONE_FORMAT, Format(44100, 2), Format(8000)])
def test_the_tone_is_audible_and_begins_and_ends_softly(format: Format) -> None:
    samples = array("h", tone(format))
    assert 0.4 < format.seconds_of(2 * len(samples)) < 0.6
    assert 8000 < max(samples) < 12000 and abs(samples[0]) < 10 and abs(samples[-1]) < 500


def test_the_sentence_follows_the_tone_in_its_own_format(tmp_path: Path) -> None:
    format = Format(16000)
    path = tmp_path / "notice.phrase"
    path.write_bytes(encode(Phrase(KEY, "", format, b"ab" * 1000)))
    found, pcm = notice_audio(path, KEY)
    assert found == format and pcm == tone(format) + bytes(format.bytes_of(PAUSE_SECONDS)) + b"ab" * 1000


@pytest.mark.parametrize(
    "content", [None, b"damaged", encode(Phrase(KEY._replace(text="x"), "", Format(16000), b"ab"))]
)
def test_without_a_sentence_that_fits_the_tone_is_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "notice.phrase"
    if content is not None:
        path.write_bytes(content)
    assert notice_audio(path, KEY) == (TONE_FORMAT, tone(TONE_FORMAT))

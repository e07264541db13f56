"""Formula of the tone engine, which exact tests rely on, computed independently."""

from __future__ import annotations

import math
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent.server.tts import tone
from agent.server.tts.engine import VoiceOptions


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_a_word_is_0_2_s_of_the_documented_sine(rate: int) -> None:
    hertz = 300 + 25 * (zlib.crc32(b"hello") % 100)
    expected = [round(8000 * math.sin(2 * math.pi * hertz / rate * i)) for i in range(rate // 5)]
    assert tone.pcm("Hello,", rate) == struct.pack(f"<{len(expected)}h", *expected)


@given(some.text(max_size=40), some.text(max_size=40))
def test_splitting_between_words_does_not_change_the_audio(one: str, other: str) -> None:
    assert tone.pcm(f"{one} {other}", 8000) == tone.pcm(one, 8000) + tone.pcm(other, 8000)


def test_speak_uses_the_requested_rate() -> None:
    speech = tone.ToneEngine().speak("one two three", VoiceOptions(24000, voice="x", language="de", speed=2.0))
    assert speech.rate == 24000
    assert b"".join(speech.chunks) == tone.pcm("one two three", 24000)
    assert len(tone.pcm("one two three", 24000)) == 3 * 4800 * 2

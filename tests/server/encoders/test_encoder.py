"""What clients get as bytes: headers, companded samples, pages; each pinned by other means than our own decoder."""

from __future__ import annotations

import array
import struct
import subprocess
import wave
from pathlib import Path

import pytest

from agent.errors import AudioError
from agent.server.encoders import encoder as encode
from agent.server.encoders import ogg
from agent.server.encoders.encoder import Stream
from agent.server.encoders.g711 import compand
from agent.server.tts import tone
from agent.services.protocols.codec import Encoding


def test_companded_samples_are_those_of_the_standard() -> None:
    samples = [0, 8, -8, 100, -100, 1000, -1000, 8000, -8000, 32767, -32768]
    pcm = struct.pack(f"<{len(samples)}h", *samples)
    assert compand(pcm, "mulaw").hex() == "fffe7ef272ce4ea0208000"
    assert compand(pcm, "alaw").hex() == "d5d555d353fa7a8a0aaa2a"


def test_the_checksum_of_a_page_is_that_of_the_standard() -> None:
    # The first page of any Ogg stream, without content: every other writer gives it this checksum.
    page = ogg.Pages().page([], 0)
    assert len(page) == 27
    zeroed = page[:22] + b"\0\0\0\0" + page[26:]
    crc = 0
    for byte in zeroed:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    assert int.from_bytes(page[22:26], "little") == crc


def test_a_header_is_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode.wav_header(Encoding("wav", 22050, 2), 8) + bytes(8))
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (22050, 2, 2, 2)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000, 44100])
def test_an_opus_stream_is_as_long_as_what_went_in_for_any_other_decoder(tmp_path: Path, rate: int) -> None:
    stream = Stream(Encoding("opus", rate))
    pcm = tone.pcm("one two three four five six seven", rate)
    packed = b"".join(b"".join(stream.feed(pcm[at : at + 999 * 2], rate)) for at in range(0, len(pcm), 999 * 2))
    packed += b"".join(stream.finish())
    (tmp_path / "a.opus").write_bytes(packed)
    subprocess.run(
        ["opusdec", "--quiet", "--rate", "48000", str(tmp_path / "a.opus"), str(tmp_path / "a.wav")],
        check=True,
        timeout=30,
    )
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getnframes() == pytest.approx(7 * 0.2 * 48000, abs=2)


def test_a_rate_that_is_not_the_engines_gives_the_right_length_without_a_break() -> None:
    stream = Stream(Encoding("raw", 44100))
    pcm = tone.pcm("one two three", 16000)
    out = b"".join(b"".join(stream.feed(pcm[at : at + 700], 16000)) for at in range(0, len(pcm), 700))
    out += b"".join(stream.finish())
    assert len(out) == 2 * round(len(pcm) / 2 * 44100 / 16000)
    samples = array.array("h")
    samples.frombytes(out)
    assert max(abs(b - a) for a, b in zip(samples, samples[1:], strict=False)) < 8000


@pytest.mark.parametrize("container", ["raw", "wav", "mp3", "opus"])
def test_a_stream_without_sound_ends_well_and_twice(container: str) -> None:
    stream = Stream(Encoding(container, 24000))
    stream.finish()
    assert stream.finish() == []


def test_a_format_that_cannot_be_made_is_told_in_a_sentence() -> None:
    with pytest.raises(AudioError, match="ask for wav, raw, mp3 or opus"):
        Stream(Encoding("flac", 24000))
    with pytest.raises(AudioError, match="ask for 1 or 2"):
        Stream(Encoding("raw", 24000, channels=5))

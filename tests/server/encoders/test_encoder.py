"""Encoders, checked with independent decoders and the published constants."""

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
from agent.server.encoders.encoder import EncodedStream
from agent.server.encoders.g711 import compand
from agent.server.encoders.opus import OpusEncoder
from agent.server.tts import tone
from agent.services.protocols.codec import Encoding


def test_compand_matches_g711() -> None:
    samples = [0, 8, -8, 100, -100, 1000, -1000, 8000, -8000, 32767, -32768]
    pcm = struct.pack(f"<{len(samples)}h", *samples)
    assert compand(pcm, "mulaw").hex() == "fffe7ef272ce4ea0208000"
    assert compand(pcm, "alaw").hex() == "d5d555d353fa7a8a0aaa2a"


def test_page_checksum_matches_the_ogg_crc() -> None:
    page = ogg.OggPageWriter().page([], 0)
    assert len(page) == 27
    zeroed = page[:22] + b"\0\0\0\0" + page[26:]
    crc = 0
    for byte in zeroed:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    assert int.from_bytes(page[22:26], "little") == crc


def test_the_wave_module_reads_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode.wav_header(Encoding("wav", 22050, 2), 8) + bytes(8))
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (22050, 2, 2, 2)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000, 44100])
def test_opusdec_decodes_exactly_the_length_of_the_input(tmp_path: Path, rate: int) -> None:
    stream = EncodedStream(Encoding("opus", rate))
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


def test_resampling_keeps_the_length_without_a_discontinuity() -> None:
    stream = EncodedStream(Encoding("raw", 44100))
    pcm = tone.pcm("one two three", 16000)
    out = b"".join(b"".join(stream.feed(pcm[at : at + 700], 16000)) for at in range(0, len(pcm), 700))
    out += b"".join(stream.finish())
    assert len(out) == 2 * round(len(pcm) / 2 * 44100 / 16000)
    samples = array.array("h")
    samples.frombytes(out)
    assert max(abs(b - a) for a, b in zip(samples, samples[1:], strict=False)) < 8000


@pytest.mark.parametrize("container", ["raw", "wav", "mp3", "opus"])
def test_finish_of_an_empty_stream_is_idempotent(container: str) -> None:
    stream = EncodedStream(Encoding(container, 24000))
    stream.finish()
    assert stream.finish() == []


def test_failed_finish_releases_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(encoder: OpusEncoder, pcm: bytes) -> bytes:
        raise AudioError("no memory")

    stream = EncodedStream(Encoding("opus", 48000))
    monkeypatch.setattr(OpusEncoder, "_packet", fail)
    with pytest.raises(AudioError):
        stream.finish()
    assert stream.feed(bytes(1920), 48000) == []  # a released encoder returns nothing


def test_an_unsupported_format_raises_with_the_supported_ones() -> None:
    with pytest.raises(AudioError, match="request wav, raw, mp3 or opus"):
        EncodedStream(Encoding("flac", 24000))
    with pytest.raises(AudioError, match="request 1 or 2"):
        EncodedStream(Encoding("raw", 24000, channels=5))

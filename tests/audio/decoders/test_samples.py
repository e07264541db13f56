"""Samples in blocks: IMA ADPCM, MS ADPCM and GSM 6.10 decode exactly as libsndfile does it."""

from __future__ import annotations

import array
import io
import math
import random
import struct
from collections.abc import Callable

import pytest
import soundfile

from agent.audio.decoders.samples import SampleDecoder
from agent.audio.wav_file import WavFile, WavPipe
from agent.errors import AudioError

TAGS = {"ima_adpcm": 17, "ms_adpcm": 2, "gsm610": 49}
SUBTYPES = {"ima_adpcm": "IMA_ADPCM", "ms_adpcm": "MS_ADPCM", "gsm610": "GSM610"}
CASES = [("ima_adpcm", 1), ("ima_adpcm", 2), ("ms_adpcm", 1), ("ms_adpcm", 2), ("gsm610", 1)]
FRAMES = 3000


def wav(encoding: str, channels: int, block_bytes: int, blocks: bytes, rate: int = 8000) -> bytes:
    """Return a file; ADPCM states its samples in a block, as libsndfile requires."""
    tag = TAGS[encoding]
    frames = {17: 2 * (block_bytes // max(1, channels) - 4) + 1, 2: 2 * (block_bytes // max(1, channels) - 7) + 2}
    extra = struct.pack("<HH", 2, max(0, frames.get(tag, 320)) & 0xFFFF)
    if tag == 2:
        pairs = ((256, 0), (512, -256), (0, 0), (192, 64), (240, 0), (460, -208), (392, -232))
        extra = struct.pack("<HHH", 32, max(0, frames[2]) & 0xFFFF, 7) + b"".join(struct.pack("<hh", *p) for p in pairs)
    head = struct.pack("<HHIIHH", tag, channels, rate, rate, block_bytes, 0 if tag == 49 else 4) + extra
    body = b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(blocks)) + blocks
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def by_libsndfile(data: bytes) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    return bytes(samples.astype("<i2").tobytes())


def random_blocks(encoding: str, channels: int, block_bytes: int, count: int) -> bytes:
    """Return blocks of random samples behind valid headers."""
    rng = random.Random(f"{encoding} {channels}")
    headers: dict[str, Callable[[], bytes]] = {
        "ima_adpcm": lambda: b"".join(rng.randbytes(2) + bytes([rng.randrange(89), 0]) for _ in range(channels)),
        "ms_adpcm": lambda: bytes(rng.randrange(7) for _ in range(channels)),
        "gsm610": lambda: b"",
    }
    blocks = bytearray()
    for _ in range(count):
        header = headers[encoding]()
        blocks += header + rng.randbytes(block_bytes - len(header))
    return bytes(blocks)


@pytest.mark.parametrize(("encoding", "channels"), CASES)
def test_random_blocks_decode_as_in_libsndfile(encoding: str, channels: int) -> None:
    block_bytes = 65 if encoding == "gsm610" else 256 * channels
    blocks = random_blocks(encoding, channels, block_bytes, 20)
    decoded = SampleDecoder(encoding, channels, block_bytes).decode(blocks)
    assert decoded == by_libsndfile(wav(encoding, channels, block_bytes, blocks))


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize(("encoding", "channels"), CASES)
def test_files_of_libsndfile_are_read_and_piped(encoding: str, channels: int, rate: int) -> None:
    tone = [round(20000 * math.sin(0.05 * (number % channels + 1) * number)) for number in range(FRAMES * channels)]
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, channels, SUBTYPES[encoding], format="WAV") as writer:
        writer.buffer_write(array.array("h", tone).tobytes(), "int16")
    data = file.getvalue()
    expected = by_libsndfile(data)
    for source in (WavFile(io.BytesIO(data)), WavPipe(io.BytesIO(data))):
        assert (source.format.rate, source.format.channels) == (rate, channels)
        pcm = b"".join(source.read())
        # libsndfile takes the padding byte behind an odd number of GSM blocks for a block.
        assert pcm == expected[: len(pcm)] and len(pcm) >= 2 * channels * FRAMES


def test_incomplete_last_block_is_dropped() -> None:
    blocks = random_blocks("ima_adpcm", 1, 256, 3)
    data = wav("ima_adpcm", 1, 256, blocks)[:-100]
    whole = SampleDecoder("ima_adpcm", 1, 256).decode(blocks[:512])
    assert b"".join(WavFile(io.BytesIO(data)).read()) == whole
    assert b"".join(WavPipe(io.BytesIO(data)).read()) == whole


@pytest.mark.parametrize(
    ("encoding", "channels", "block_bytes"),
    [("ima_adpcm", 3, 768), ("ima_adpcm", 1, 0), ("ms_adpcm", 3, 768), ("ms_adpcm", 2, 6), ("gsm610", 2, 65)],
)
def test_impossible_blocks_are_refused_as_by_libsndfile(encoding: str, channels: int, block_bytes: int) -> None:
    data = wav(encoding, channels, block_bytes, bytes(1000))
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.SoundFile(io.BytesIO(data))
    for read in (WavFile, WavPipe):
        with pytest.raises(AudioError, match="are not supported. Use 16-bit PCM"):
            read(io.BytesIO(data))


def test_damaged_blocks_decode_without_an_error() -> None:
    for encoding, channels in CASES:
        block_bytes = 65 if encoding == "gsm610" else 256 * channels
        noise = random.Random(encoding).randbytes(4 * block_bytes)
        assert SampleDecoder(encoding, channels, block_bytes).decode(noise)

"""WAV files: the same samples as libsndfile, for every layout, and a refusal where it refuses."""

from __future__ import annotations

import array
import contextlib
import io
import random
import struct
from typing import NamedTuple

import pytest
import soundfile

from agent.audio.wav_file import WavFile, WavPipe
from agent.errors import AudioError

FRAMES = 96
UNKNOWN = 0xFFFF_FFFF
GUID_END = bytes.fromhex("800000aa00389b71")
ENCODINGS = {
    # tag, bits of a sample, format character of struct ("t": three bytes), lowest and highest value
    "u8": (1, 8, "B", 0, 255),
    "s12": (1, 12, "h", -(1 << 15), (1 << 15) - 1),
    "s16": (1, 16, "h", -(1 << 15), (1 << 15) - 1),
    "s20": (1, 20, "t", -(1 << 23), (1 << 23) - 1),
    "s24": (1, 24, "t", -(1 << 23), (1 << 23) - 1),
    "s32": (1, 32, "i", -(1 << 31), (1 << 31) - 1),
    "f32": (3, 32, "f", -1.1, 1.1),
    "f64": (3, 64, "d", -1.1, 1.1),
    "alaw": (6, 8, "B", 0, 255),
    "mulaw": (7, 8, "B", 0, 255),
}
CHUNKS = {
    "text": (b"LIST", b"INFOICMT" + struct.pack("<I", 300) + b"x" * 300),
    "odd text": (b"LIST", b"INFOINAM\x05\0\0\0abcde"),
    "picture": (b"id3 ", b"ID3\x03\0\0\0\0\x7f\x7f" + random.Random(2).randbytes(16383)),
    "cues": (b"cue ", struct.pack("<I", 0)),
    "broadcast": (b"bext", bytes(602)),
    "padding": (b"JUNK", b"\x7f" * 27),
}


class Variant(NamedTuple):
    """One generated file: ``data`` is the file, ``plain`` the same sound with a right size and no metadata."""

    name: str
    data: bytes
    plain: bytes


def chunk(name: bytes, data: bytes, order: str = "<", size: int | None = None) -> bytes:
    return name + struct.pack(f"{order}I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def fmt(
    tag: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, order: str = "<", layout: int = 16
) -> bytes:
    block = channels * ((bits + 7) // 8)
    extra = {
        16: b"",
        18: b"\0\0",
        40: struct.pack(f"{order}HHIIHH", 22, bits, (1 << channels) - 1, tag, 0, 16) + GUID_END,
    }[layout]
    head = struct.pack(f"{order}HHIIHH", 0xFFFE if layout == 40 else tag, channels, rate, rate * block, block, bits)
    return chunk(b"fmt ", head + extra, order)


def file(body: bytes, magic: bytes = b"RIFF", order: str = "<", size: int | None = None) -> bytes:
    return magic + struct.pack(f"{order}I", len(body) + 4 if size is None else size) + b"WAVE" + body


def encode(rng: random.Random, count: int, encoding: str, order: str) -> bytes:
    _, _, letter, low, high = ENCODINGS[encoding]
    if letter in "fd":
        return struct.pack(f"{order}{count}{letter}", *(rng.uniform(low, high) for _ in range(count)))
    values = [rng.randint(int(low), int(high)) for _ in range(count)]
    if letter == "t":
        return b"".join(value.to_bytes(3, "little" if order == "<" else "big", signed=True) for value in values)
    return struct.pack(f"{order}{count}{letter}", *values)


def variant(number: int) -> Variant:
    """Generate a file from the product of containers, encodings, channels, rates, sizes and chunks."""
    rng = random.Random(number)
    container = rng.choice(["RIFF", "RIFF", "RIFX", "RF64"])
    encoding, channels = rng.choice(list(ENCODINGS)), rng.choice([1, 1, 2, 3, 4, 6, 8])
    rate = rng.choice([8000, 11025, 16000, 22050, 24000, 32000, 37800, 44100, 48000, 88200, 96000, 192000, 384000])
    size = rng.choice(["exact", "exact", "unknown", "sox", "long", "short"]) if container != "RF64" else "ds64"
    before, behind = ([rng.choice(list(CHUNKS)) for _ in range(rng.choice([0, 0, 1, 2]))] for _ in range(2))
    order = ">" if container == "RIFX" else "<"
    tag, bits, *_ = ENCODINGS[encoding]
    pcm = encode(rng, FRAMES * channels, encoding, order)
    layout = rng.choice([16, 18, 40])
    head = fmt(tag, channels, rate, bits, order, layout)
    width = channels * ((bits + 7) // 8)
    stated = {"unknown": UNKNOWN, "sox": 0x7FFF_F000 // width * width, "long": len(pcm) + 20, "short": 40 * width}
    tags = [b"".join(chunk(*CHUNKS[name], order) for name in names) for names in (before, behind)]
    if size == "short":
        tags[1] = b""  # the rest of the samples is no chunk
    data = chunk(b"data", pcm, order, UNKNOWN if size == "ds64" else stated.get(size))
    total = UNKNOWN if size in ("unknown", "ds64") else None
    long = chunk(b"ds64", struct.pack("<QQQI", len(data) + 100, len(pcm), FRAMES, 0)) if size == "ds64" else b""
    name = f"{number}: {container} {encoding} {channels} ch {rate} Hz {size} fmt {layout}, {before} data {behind}"
    whole = file(long + tags[0] + head + data + tags[1], container.encode(), order, total)
    plain = file(head + chunk(b"data", pcm[: 40 * width] if size == "short" else pcm, order), container.encode(), order)
    return Variant(name, whole, plain.replace(b"RF64", b"RIFF", 1))


def expected(data: bytes) -> tuple[int, int, list[float]]:
    """Return rate, channels and samples (full scale 32768, clipped) as libsndfile reads them."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)
    return rate, samples.shape[1], (samples.ravel() * 32768.0).clip(-32768.0, 32767.0).tolist()


def decoded(wav: WavFile | WavPipe) -> tuple[int, int, list[int]]:
    return wav.format.rate, wav.format.channels, array.array("h", b"".join(wav.read())).tolist()


def assert_same(actual: tuple[int, int, list[int]], right: tuple[int, int, list[float]], name: str) -> None:
    assert actual[:2] == right[:2] and len(actual[2]) == len(right[2]), name
    assert max(abs(a - b) for a, b in zip(actual[2], right[2], strict=True)) <= 1.0, name


class Pipe(io.BytesIO):
    """A file that gives pieces of any size and cannot seek."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._piece = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, self._piece) if self.tell() >= 12 else size)


@pytest.mark.parametrize("start", range(0, 500, 50))
def test_generated_files_have_the_samples_that_libsndfile_reads(start: int) -> None:
    for number in range(start, start + 50):
        each = variant(number)
        # libsndfile plays the metadata behind sound of unknown length, and refuses some chunks in RF64.
        is_clean = "RIF" in each.name and (" exact " in each.name or " short " in each.name)
        right = expected(each.data if is_clean else each.plain)
        assert_same(decoded(WavFile(io.BytesIO(each.data))), right, each.name)


@pytest.mark.parametrize(("size", "step"), [(1, 25), (7, 5), (4096, 3)])
def test_generated_files_have_the_same_samples_through_a_pipe(size: int, step: int) -> None:
    """A pipe may be longer than its header states, and the size of its data is the only limit of the samples."""
    for number in range(0, 500, step):
        each = variant(number)
        if " short " not in each.name and not (" long " in each.name and "data []" not in each.name):
            assert_same(decoded(WavPipe(Pipe(each.data, size))), expected(each.plain), each.name)


PCM = struct.pack(f"<{FRAMES}h", *range(-40, FRAMES - 40))
DATA = chunk(b"data", PCM)
LIST = chunk(*CHUNKS["text"])


@pytest.mark.parametrize(
    "behind",
    [LIST, LIST + chunk(*CHUNKS["picture"]), chunk(*CHUNKS["odd text"]), chunk(*CHUNKS["odd text"])[:-1], b""],
)
@pytest.mark.parametrize("stated", [UNKNOWN, 0x7FFF_F000, 4294967040, len(PCM) + 2, len(PCM) + 5000, len(PCM)])
def test_metadata_behind_the_sound_is_never_sound(stated: int, behind: bytes) -> None:
    data = file(fmt() + chunk(b"data", PCM, size=stated) + behind, size=UNKNOWN)
    assert b"".join(WavFile(io.BytesIO(data)).read()) == PCM


def test_file_with_a_wrong_total_size_is_read() -> None:
    for total in (0, 20, 1 << 20, UNKNOWN):
        assert b"".join(WavFile(io.BytesIO(file(fmt() + DATA + LIST, size=total))).read()) == PCM


def test_incomplete_file_is_read_up_to_its_end() -> None:
    data = file(fmt(channels=2) + DATA)
    assert b"".join(WavFile(io.BytesIO(data[:-50])).read()) == PCM[:-50][: (len(PCM) - 50) // 4 * 4]
    assert b"".join(WavPipe(Pipe(data[:-50], 64)).read()) == PCM[:-50][: (len(PCM) - 50) // 4 * 4]


def test_all_data_chunks_are_read() -> None:
    for between in (b"", LIST, chunk(*CHUNKS["odd text"])):
        data = file(fmt() + chunk(b"data", PCM[:50]) + between + chunk(b"data", PCM[50:]) + LIST)
        assert b"".join(WavFile(io.BytesIO(data)).read()) == PCM
        assert b"".join(WavPipe(Pipe(data, 11)).read()) == PCM


def test_extensible_header_of_sox_in_big_endian_is_read() -> None:
    extra = struct.pack(">HHIH", 22, 16, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")
    head = chunk(b"fmt ", struct.pack(">HHIIHH", 0xFFFE, 1, 16000, 32000, 2, 16) + extra, ">")
    data = file(head + chunk(b"data", struct.pack(">3h", 1, -2, 300), ">"), b"RIFX", ">")
    assert array.array("h", b"".join(WavFile(io.BytesIO(data)).read())).tolist() == [1, -2, 300]


@pytest.mark.parametrize("padding", [b"\0", b""])
def test_odd_number_of_bytes_is_read_with_and_without_padding(padding: bytes) -> None:
    pcm = bytes(range(100, 151))
    data = file(fmt(bits=8) + b"data" + struct.pack("<I", len(pcm)) + pcm + padding + LIST)
    assert array.array("h", b"".join(WavFile(io.BytesIO(data)).read())).tolist() == [(v - 128) << 8 for v in pcm]


def test_tag_before_the_header_is_skipped() -> None:
    for size in (10, 300_000):
        tag = b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"\x55" * size
        assert b"".join(WavFile(io.BytesIO(tag + file(fmt() + DATA))).read()) == PCM


def test_values_beyond_full_scale_are_clipped() -> None:
    values = (0.0, 2.0, -2.0, float("inf"), float("-inf"), float("nan"), 1.0, -1.0)
    data = file(fmt(tag=3, bits=32) + chunk(b"data", struct.pack("<8f", *values)))
    samples = array.array("h", b"".join(WavFile(io.BytesIO(data)).read())).tolist()
    assert samples == [0, 32767, -32768, 32767, -32768, 0, 32767, -32768]


@pytest.mark.parametrize("behind", [b"", LIST, chunk(*CHUNKS["picture"])])
@pytest.mark.parametrize("pcm", [b"", b"abc"])
def test_file_without_sound_has_no_samples(pcm: bytes, behind: bytes) -> None:
    data = file(fmt(channels=2) + chunk(b"data", pcm) + behind)
    assert b"".join(WavFile(io.BytesIO(data)).read()) == b""
    assert b"".join(WavPipe(Pipe(data, 8)).read()) == b""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (file(fmt() + DATA.replace(struct.pack("<I", len(PCM)), bytes(4), 1)), "states no sound"),
        (file(fmt() + LIST), "no data chunk"),
        (file(b""), "no data chunk"),
        (file(fmt())[:-4], "no data chunk|fmt chunk has 12 bytes"),
        (file(DATA), "no fmt chunk"),
        (file(DATA + fmt()), "no fmt chunk"),
        (file(fmt() + fmt(rate=8000) + DATA), "two fmt chunks"),
        (file(fmt() + chunk(b"\1\2\3\4", b"1234") + DATA), "damaged"),
        (file(fmt() + chunk(b"LIST", b"INFO", size=0xFFF_FFFF) + DATA), "no data chunk"),
        (file(fmt(channels=0) + DATA), "0 channels"),
        (file(fmt(rate=0) + DATA), "0 Hz"),
        (file(fmt(bits=0) + DATA), "0-bit integer"),
        (file(fmt(bits=64) + DATA), "64-bit integer"),
        (file(fmt(tag=3) + DATA), "16-bit floating point"),
        (file(fmt(tag=85) + DATA), "mp3"),
        (file(fmt(tag=0xFFFE, layout=18) + DATA), "not supported"),
        (file(fmt() + DATA) * 2, "several WAV files"),
        (file(fmt() + DATA).replace(b"WAVE", b"AVI "), "not a WAV file"),
        (b"\0" + file(fmt() + DATA), "not a WAV file"),
        (b"OggS" + bytes(100), "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (b"", "not a WAV file"),
    ],
)
def test_damaged_file_is_refused_with_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(AudioError, match=says) as caught:
        WavFile(io.BytesIO(data))
    assert str(caught.value).count("\n") == 0
    with contextlib.suppress(soundfile.LibsndfileError):
        assert len(soundfile.read(io.BytesIO(data))[0]) == 0


@pytest.mark.parametrize("size", [12, 30, 36, 43])
def test_header_that_ends_early_is_refused_through_a_pipe(size: int) -> None:
    with pytest.raises(AudioError, match="no data chunk"):
        WavPipe(Pipe(file(fmt() + chunk(b"data", b""))[:size], 8))


def test_damaged_bytes_raise_only_audio_errors() -> None:
    rng = random.Random(5)
    for number in range(300):
        data = bytearray(variant(number).data[:2000])
        for _ in range(3):
            data[rng.randrange(min(len(data), 120))] = rng.randrange(256)
        try:
            assert len(b"".join(WavFile(io.BytesIO(data)).read())) <= 2 * len(data)
        except AudioError as error:
            assert str(error)

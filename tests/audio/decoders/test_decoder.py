"""Audio decoders: exact output for any split of the input, and errors for anything else."""

from __future__ import annotations

import array
import ctypes
import math
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.machine import resident_kib

from agent.audio.decoders.decoder import Decoder, create_decoder
from agent.audio.decoders.opus import OggReader
from agent.audio.decoders.riff import TRAILERS
from agent.audio.format import Format
from agent.errors import AudioError

NOISE = random.Random(7).randbytes(4000)
RIFF = b"RIFF"
PARTS = [RIFF, b"WAVE", b"fmt ", b"data", b"LIST", b"\0\0\0\0", b"OggS\0", b"OpusHead", b"\xff\xfb\x90\x00", b"ID3"]
KINDS = (("raw", "s16le"), ("wav", "s16le"), ("raw", "mulaw"), ("opus", "s16le"), ("mp3", "s16le"))


def tone(seconds: float, rate: int, hertz: float = 440.0, channels: int = 1) -> bytes:
    samples = array.array("h")
    for n in range(round(seconds * rate)):
        samples.extend([round(12000 * math.sin(2 * math.pi * hertz * n / rate))] * channels)
    return samples.tobytes()


def wav(
    pcm: bytes,
    rate: int = 24000,
    channels: int = 1,
    *,
    tag: int = 1,
    bits: int = 16,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + before
    body += b"data" + struct.pack("<I", len(pcm) if data_size is None else data_size) + pcm + after
    return RIFF + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def decode(pieces: list[bytes], made: Decoder) -> bytes:
    out = b"".join(made.feed(piece) for piece in pieces)
    return out + made.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def run(*argv: str | Path) -> None:
    subprocess.run([str(a) for a in argv], check=True, capture_output=True)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One second of a tone (24 kHz mono) as mp3 and Opus; Opus also with one-second pages, and in stereo."""
    for tool in ("lame", "opusenc"):
        assert shutil.which(tool), f"the test needs the program {tool}: scripts/test installs it"
    folder = tmp_path_factory.mktemp("encoded")
    (folder / "mono.wav").write_bytes(wav(tone(1.0, 24000)))
    (folder / "stereo.wav").write_bytes(wav(tone(1.0, 48000, channels=2), 48000, 2))
    run("lame", "--quiet", "-b", "64", folder / "mono.wav", folder / "mono.mp3")
    run("lame", "--quiet", "-b", "64", "-t", folder / "mono.wav", folder / "bare.mp3")
    run("lame", "--quiet", "--id3v2-only", "--tt", "Title", "-b", "64", folder / "mono.wav", folder / "tagged.mp3")
    run("opusenc", "--quiet", folder / "mono.wav", folder / "mono.opus")
    run("opusenc", "--quiet", "--max-delay", "1000", folder / "mono.wav", folder / "long.opus")
    run("opusenc", "--quiet", folder / "stereo.wav", folder / "stereo.opus")
    (folder / "six.wav").write_bytes(wav(tone(1.0, 48000, channels=6), 48000, 6))
    run("opusenc", "--quiet", folder / "six.wav", folder / "six.opus")
    (folder / "wide.wav").write_bytes(wav(tone(1.0, 44100, channels=2), 44100, 2))
    run("lame", "--quiet", "-b", "128", folder / "wide.wav", folder / "wide.mp3")
    (folder / "low.wav").write_bytes(wav(tone(1.0, 16000), 16000))
    run("lame", "--quiet", "-b", "32", folder / "low.wav", folder / "low.mp3")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def estimate_hertz(pcm: bytes, rate: int, channels: int = 1) -> float:
    """Estimate the frequency by the zero crossings in the middle of the audio."""
    samples = array.array("h", pcm)[::channels]
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    rises = sum(1 for a, b in zip(middle, middle[1:], strict=False) if a < 0 <= b)
    return rises * rate / len(middle)


# --- raw and WAV


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_raw_output_equals_input_for_any_split(places: list[int]) -> None:
    made = create_decoder("raw", "s16le", 24000, 1)
    assert decode(cut(NOISE, places), made) == NOISE
    assert made.format == Format(24000)


@given(st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([None, 0, 0xFFFFFFFF, 4294967040]))
def test_wav_header_is_removed_for_any_split(places: list[int], size: int | None) -> None:
    made = create_decoder("wav", "s16le", 16000, 1)
    file = wav(NOISE, 44100, data_size=size, riff_size=size and min(size + 36, 0xFFFFFFFF))
    assert decode(cut(file, places), made) == NOISE
    assert made.format == Format(44100), "what the header says outranks what was asked for"


def test_decoder_accepts_single_bytes() -> None:
    assert decode(bytewise(wav(NOISE)), create_decoder("wav", "s16le", 24000, 1)) == NOISE
    assert decode(bytewise(NOISE), create_decoder("raw", "s16le", 24000, 1)) == NOISE


LAYOUTS = {
    "a header of its own, then samples": lambda a, b: [wav(b"", data_size=0, riff_size=0), a, b],
    "a header of its own with placeholders": lambda a, b: [wav(b"", data_size=4294967040, riff_size=4294967076), a, b],
    "a header on the first piece only": lambda a, b: [wav(a), b],
    "a header on every piece": lambda a, b: [wav(a), wav(b)],
    "a header with placeholders on every piece": lambda a, b: [wav(a, data_size=0), wav(b, data_size=0xFFFFFFFF)],
    "no header at all": lambda a, b: [a, b],
}


@pytest.mark.parametrize("container", ["wav", "raw"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_headers_never_reach_the_output(container: str, layout: str) -> None:
    first, second = NOISE[:1000], NOISE[1000:]
    pieces = LAYOUTS[layout](first, second)
    assert decode(pieces, create_decoder(container, "s16le", 24000, 1)) == NOISE


def exact(body: bytes) -> bytes:
    return wav(body)


def endless(body: bytes) -> bytes:
    return wav(body, data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF)


def unsized(body: bytes) -> bytes:
    return wav(body, data_size=0, riff_size=0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 999])
@pytest.mark.parametrize("headed", [exact, endless, unsized])
def test_sample_split_by_a_header_is_joined(headed: Callable[[bytes], bytes], size: int) -> None:
    """A service puts a header before every piece and splits its audio at any byte. Without the odd byte at the end of
    a piece, everything after it is noise."""
    pieces = [headed(NOISE[at : at + size]) for at in range(0, 1000, size)]
    whole = NOISE[: len(range(0, 1000, size)) * size]
    assert decode(pieces, create_decoder("wav", "s16le", 24000, 1)) == whole[: len(whole) // 2 * 2]


@given(
    st.lists(st.integers(0, 10_000), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from([exact, endless, unsized]),
    st.lists(st.booleans(), min_size=14, max_size=14),
)
@example([1, 2, 3, 4], [], endless, [False, False, False, True] + 10 * [False]).via("a piece that is an R")
def test_every_layout_decodes_exactly_for_any_split(
    bodies: list[int], cuts: list[int], headed: Callable[[bytes], bytes], alone: list[bool]
) -> None:
    """Each piece gets a header, in the same message or in its own; then the messages are
    split again, also inside headers."""
    pieces: list[bytes] = []
    for body, by_itself in zip(filter(None, cut(NOISE, bodies)), alone, strict=False):
        file = headed(body)
        head = len(file) - len(body)
        pieces += [file[:head], file[head:]] if by_itself else [file]
    for at, where in enumerate(cuts):
        place = (at * 7 + where) % len(pieces)
        pieces[place : place + 1] = [piece for piece in cut(pieces[place], [where]) if piece]
    assert decode(pieces, create_decoder("wav", "s16le", 24000, 1)) == NOISE


def test_header_split_over_messages_is_removed() -> None:
    second = wav(NOISE[1000:])
    pieces = [wav(NOISE[:1000]), second[:3], second[3:20], second[20:]]
    assert decode(pieces, create_decoder("wav", "s16le", 24000, 1)) == NOISE


def test_piece_that_starts_with_r_is_audio() -> None:
    sound = b"\x01\x02\x03" + b"RI" + b"\x05" + b"R" + b"\x06\x07\x08"
    pieces = [b"\x01\x02\x03", b"RI", b"\x05", b"R", b"\x06\x07\x08"]
    assert decode(pieces, create_decoder("raw", "s16le", 24000, 1)) == sound


def test_riff_inside_the_samples_is_audio() -> None:
    sound = b"\0" * 100 + b"RIFF\x10\0\0\0WAVE" + b"\0" * 100
    assert decode([wav(sound)], create_decoder("wav", "s16le", 24000, 1)) == sound


def test_chunks_around_the_data_are_skipped() -> None:
    junk = b"LIST" + struct.pack("<I", 5) + b"abcde\0" + b"fact" + struct.pack("<I", 4) + b"\0\0\0\0"
    for pieces in ([wav(NOISE, before=junk, after=junk)], bytewise(wav(NOISE, before=junk, after=junk))):
        assert decode(pieces, create_decoder("wav", "s16le", 24000, 1)) == NOISE
    unknown_length = wav(NOISE, after=junk, riff_size=0xFFFFFFFF)
    assert decode([unknown_length], create_decoder("wav", "s16le", 24000, 1)) == NOISE


@pytest.mark.parametrize("name", TRAILERS)
@pytest.mark.parametrize("nbytes", [100, 101, 102, 103])
@pytest.mark.parametrize(("tag", "bits"), [(1, 16), (1, 8)])
def test_chunk_after_samples_of_unknown_length_is_no_audio(name: bytes, nbytes: int, tag: int, bits: int) -> None:
    """The chunk starts in the middle of a message of whole samples, at each place relative to a sample."""
    samples = bytes([3, 5] * 100)
    chunk = name + struct.pack("<I", 64) + bytes(64 - nbytes % 2)
    start = wav(samples, tag=tag, bits=bits, data_size=0, riff_size=0xFFFFFFFF)
    expected = decode([start, samples[:nbytes]], create_decoder("wav", "s16le", 24000, 1))
    assert decode([start, samples[:nbytes] + chunk], create_decoder("wav", "s16le", 24000, 1)) == expected


@pytest.mark.parametrize(
    ("tag", "bits", "data", "samples"),
    [
        (1, 8, bytes([0, 128, 255]), [-32768, 0, 32512]),
        (1, 24, bytes([9, 1, 0, 9, 255, 255]), [1, -1]),
        (1, 32, bytes([9, 9, 1, 0, 9, 9, 255, 255]), [1, -1]),
        (7, 8, bytes([0xFF, 0x00, 0x80]), [0, -32124, 32124]),
        (6, 8, bytes([0xD5, 0x55, 0x2A, 0xAA]), [8, -8, -32256, 32256]),
    ],
)
def test_other_encodings_become_s16le(tag: int, bits: int, data: bytes, samples: list[int]) -> None:
    out = decode([wav(data, 8000, tag=tag, bits=bits)], create_decoder("wav", "s16le", 24000, 1))
    assert list(array.array("h", out)) == samples


def test_mulaw_without_a_header_is_decoded() -> None:
    made = create_decoder("raw", "mulaw", 8000, 1)
    assert list(array.array("h", decode([b"\xff", b"\x00"], made))) == [0, -32124]
    assert made.format == Format(8000)


def test_unsupported_samples_raise_an_error() -> None:
    with pytest.raises(AudioError, match="4-bit G.721"):
        decode([wav(NOISE, tag=64, bits=4)], create_decoder("wav", "s16le", 24000, 1))
    with pytest.raises(AudioError, match="changes from 24000 Hz mono to 16000 Hz mono"):
        decode([wav(NOISE, 24000), wav(NOISE, 16000)], create_decoder("wav", "s16le", 24000, 1))


@pytest.mark.parametrize("container", ["raw", "wav"])
@pytest.mark.parametrize("name", ["mono.mp3", "bare.mp3", "tagged.mp3", "mono.opus"])
def test_compressed_stream_raises_an_error_where_samples_are_expected(
    encoded: dict[str, bytes], container: str, name: str
) -> None:
    """Without the check, a service whose default is mp3 is played as noise."""
    for size in (1, 7, 1024, 100_000):
        made = create_decoder(container, "s16le", 24000, 1)
        data = encoded[name]
        with pytest.raises(AudioError, match="uncompressed audio was expected, but (mp3|Ogg) was received"):
            decode([data[n : n + size] for n in range(0, len(data), size)], made)


def test_quiet_samples_that_look_like_mp3_are_audio() -> None:
    quiet = array.array("h", [-1025, -28545, 3, 4] * 2000).tobytes()  # ff fb 7f 90
    assert decode([quiet[:5], quiet[5:]], create_decoder("raw", "s16le", 24000, 1)) == quiet


def test_ogg_page_without_a_segment_is_skipped() -> None:
    page = b"OggS" + bytes(23)
    assert list(OggReader().feed(page * 3)) == []
    assert list(OggReader().feed(page + b"OggS" + bytes(22) + b"\1\3abc"))[0].data == b"abc"


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(PARTS))))
def test_junk_raises_only_audio_errors(pieces: list[bytes]) -> None:
    for container, samples in KINDS:
        made = create_decoder(container, samples, 24000, 1)
        try:
            out = decode(pieces, made)
        except AudioError:
            continue
        assert len(out) <= 2 * sum(map(len, pieces)) or container in ("opus", "mp3")


@settings(max_examples=200)
@given(st.lists(st.integers(0, 10_000), max_size=6), st.integers(0, 43), st.integers(0, 255))
def test_damaged_header_raises_only_audio_errors(places: list[int], at: int, value: int) -> None:
    file = bytearray(wav(NOISE))
    file[at] = value
    try:
        decode(cut(bytes(file), places), create_decoder("wav", "s16le", 24000, 1))
    except AudioError as error:
        assert str(error)


@pytest.mark.parametrize("container", ["flac", "aac", ""])
def test_unknown_container_raises_an_error(container: str) -> None:
    with pytest.raises(AudioError, match="Use wav, raw, mp3 or opus"):
        create_decoder(container, "s16le", 24000, 1)


# --- mp3


@pytest.mark.parametrize("name", ["mono.mp3", "bare.mp3", "tagged.mp3"])
@pytest.mark.parametrize("size", [1, 100, 1024, 1_000_000])
def test_mp3_decodes_to_the_encoded_tone(encoded: dict[str, bytes], name: str, size: int) -> None:
    made = create_decoder("mp3", "s16le", 44100, 1)
    data = encoded[name]
    pcm = decode([data[n : n + size] for n in range(0, len(data), size)], made)
    assert made.format == Format(24000)
    assert abs(Format(24000).seconds_of(len(pcm)) - 1.0) < 0.1
    assert abs(estimate_hertz(pcm, 24000) - 440) < 5


def test_mp3_returns_audio_within_the_first_chunks(encoded: dict[str, bytes]) -> None:
    made = create_decoder("mp3", "s16le", 24000, 1)
    assert len(made.feed(encoded["mono.mp3"][:1500])) > 2 * 1000


def test_consecutive_mp3_streams_are_decoded(encoded: dict[str, bytes]) -> None:
    made = create_decoder("mp3", "s16le", 24000, 1)
    pcm = decode([encoded["mono.mp3"], encoded["mono.mp3"]], made)
    assert abs(Format(24000).seconds_of(len(pcm)) - 2.0) < 0.15


def test_mp3_continues_after_junk(encoded: dict[str, bytes]) -> None:
    data = encoded["bare.mp3"]
    made = create_decoder("mp3", "s16le", 24000, 1)
    pcm = decode([b"\x00garbage" * 50, data[:4000], NOISE, data[4000:]], made)
    assert Format(24000).seconds_of(len(pcm)) > 0.8


@pytest.mark.parametrize("container", ["mp3", "opus"])
def test_unexpected_format_raises_an_error(container: str) -> None:
    with pytest.raises(AudioError, match="was expected, but the stream has none"):
        decode([b"\0" * 1000], create_decoder(container, "s16le", 24000, 1))
    with pytest.raises(AudioError, match="was expected, but the stream has none"):
        create_decoder(container, "s16le", 24000, 1).feed(b"\0" * 200_000)
    assert decode([], create_decoder(container, "s16le", 24000, 1)) == b""


def id3(size: int) -> bytes:
    """A tag with a picture of ``size`` bytes, which holds bytes that look like mp3 frames."""
    picture = (random.Random(3).randbytes(997) + b"\xff\xfb\x90\x64") * (size // 1001 + 1)
    body = b"APIC" + struct.pack(">I", size) + b"\0\0" + picture[:size]
    return b"ID3\x03\0\0" + bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


@pytest.mark.parametrize("size", [100, 60_000, 300_000, 2_000_000])
@pytest.mark.parametrize("piece", [600, 4096, 10_000_000])
def test_tag_of_any_size_is_skipped(encoded: dict[str, bytes], size: int, piece: int) -> None:
    data = id3(size) + encoded["bare.mp3"]
    right = decode([encoded["bare.mp3"]], create_decoder("mp3", "s16le", 24000, 1))
    made = create_decoder("mp3", "s16le", 24000, 1)
    assert decode([data[n : n + piece] for n in range(0, len(data), piece)], made) == right


def test_tag_split_at_any_byte_is_skipped(encoded: dict[str, bytes]) -> None:
    data = id3(50) + id3(20) + encoded["bare.mp3"]
    right = decode([encoded["bare.mp3"]], create_decoder("mp3", "s16le", 24000, 1))
    for at in range(160):
        assert decode([data[:at], data[at:]], create_decoder("mp3", "s16le", 24000, 1)) == right
    assert decode(bytewise(data), create_decoder("mp3", "s16le", 24000, 1)) == right


def test_tag_between_consecutive_mp3_streams_is_skipped(encoded: dict[str, bytes]) -> None:
    made = create_decoder("mp3", "s16le", 24000, 1)
    data = encoded["mono.mp3"] + id3(300_000) + encoded["mono.mp3"]
    pcm = decode([data[n : n + 600] for n in range(0, len(data), 600)], made)
    assert abs(Format(24000).seconds_of(len(pcm)) - 2.0) < 0.15


def test_tag_without_audio_raises_an_error() -> None:
    for data in (id3(1000), id3(1000)[:500], b"ID3", b"I"):
        with pytest.raises(AudioError, match="the stream has none"):
            decode([data], create_decoder("mp3", "s16le", 24000, 1))


CHAINS = [
    ["mono.mp3", "wide.mp3"],
    ["wide.mp3", "mono.mp3"],
    ["mono.mp3", "low.mp3", "wide.mp3", "low.mp3", "mono.mp3"],
    ["low.mp3", "low.mp3", "wide.mp3"],
]


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
@pytest.mark.parametrize("size", [417, 4096, 1_000_000])
def test_change_of_format_inside_an_mp3_stream_is_converted(
    encoded: dict[str, bytes], chain: list[str], size: int
) -> None:
    data = b"".join(encoded[name] for name in chain)
    made = create_decoder("mp3", "s16le", 24000, 1)
    pcm = decode([data[n : n + size] for n in range(0, len(data), size)], made)
    assert made.format == {"mono.mp3": Format(24000), "wide.mp3": Format(44100, 2), "low.mp3": Format(16000)}[chain[0]]
    assert abs(made.format.seconds_of(len(pcm)) - len(chain)) < 0.1 * len(chain)
    second = len(pcm) // len(chain) // made.format.frame_bytes * made.format.frame_bytes
    for number in range(len(chain)):
        part = pcm[number * second : (number + 1) * second]
        assert abs(estimate_hertz(part, made.format.rate, made.format.channels) - 440) < 8


# --- Opus


def with_mapping(stream: bytes, family: int, table: bytes) -> bytes:
    """Replace the mapping of the Opus header on the first page."""
    head = bytearray(stream[28 : 28 + 19])
    head[18] = family
    page = bytearray(stream[:28])
    page[27] = len(head) + len(table)
    return bytes(page + head + table) + stream[28 + 19 :]


@pytest.mark.parametrize(("name", "table"), [("stereo.opus", b"\x01\x01\x00\x01"), ("mono.opus", b"\x01\x00\x00")])
@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_opus_of_mapping_family_1_equals_family_0(
    encoded: dict[str, bytes], name: str, table: bytes, size: int
) -> None:
    data = with_mapping(encoded[name], 1, table)
    right = decode([encoded[name]], create_decoder("opus", "s16le", 48000, 1))
    made = create_decoder("opus", "s16le", 48000, 1)
    assert decode([data[n : n + size] for n in range(0, len(data), size)], made) == right


def test_opus_of_six_channels_becomes_mono(encoded: dict[str, bytes]) -> None:
    made = create_decoder("opus", "s16le", 24000, 1)
    pcm = decode([encoded["six.opus"]], made)
    assert made.format == Format(24000) and len(pcm) == 2 * 24000
    assert abs(estimate_hertz(pcm, 24000) - 440) < 5


@pytest.mark.parametrize(
    "chain", [["mono.opus", "stereo.opus"], ["stereo.opus", "six.opus", "mono.opus"]], ids="-".join
)
def test_change_of_channels_inside_an_ogg_chain_is_converted(encoded: dict[str, bytes], chain: list[str]) -> None:
    made = create_decoder("opus", "s16le", 24000, 1)
    pcm = decode(bytewise(b"".join(encoded[name] for name in chain)), made)
    assert made.format == Format(24000, 2 if chain[0] == "stereo.opus" else 1)
    assert len(pcm) == made.format.frame_bytes * 24000 * len(chain)
    assert abs(estimate_hertz(pcm, 24000, made.format.channels) - 440) < 5


@pytest.mark.parametrize(
    ("family", "table"), [(1, b""), (1, b"\x01"), (1, b"\x00\x00\x00\x01"), (1, b"\x01\x01\x07\x08"), (2, b"\1\1\0\1")]
)
def test_invalid_opus_mapping_raises_an_error(encoded: dict[str, bytes], family: int, table: bytes) -> None:
    with pytest.raises(AudioError, match="cannot decode Opus: the header is damaged"):
        create_decoder("opus", "s16le", 24000, 1).feed(with_mapping(encoded["stereo.opus"], family, table))


@pytest.mark.parametrize("name", ["mono.opus", "long.opus"])
@pytest.mark.parametrize("size", [1, 100, 1024, 1_000_000])
@pytest.mark.parametrize("rate", [24000, 48000])
def test_opus_has_the_exact_length(encoded: dict[str, bytes], name: str, size: int, rate: int) -> None:
    made = create_decoder("opus", "s16le", rate, 1)
    data = encoded[name]
    pcm = decode([data[n : n + size] for n in range(0, len(data), size)], made)
    assert made.format == Format(rate)
    assert len(pcm) == 2 * rate
    assert abs(estimate_hertz(pcm, rate) - 440) < 5


def test_opus_keeps_stereo(encoded: dict[str, bytes]) -> None:
    made = create_decoder("opus", "s16le", 44100, 1)
    pcm = decode([encoded["stereo.opus"]], made)
    assert made.format == Format(48000, 2)
    assert len(pcm) == 4 * 48000
    assert abs(estimate_hertz(pcm, 48000, 2) - 440) < 5


def test_opus_returns_audio_before_its_page_is_complete(encoded: dict[str, bytes]) -> None:
    """Pages may hold a second of audio; waiting for them would delay every first word by a second."""
    data = encoded["long.opus"]
    made = create_decoder("opus", "s16le", 24000, 1)
    heard_after = next(n for n in range(len(data)) if made.feed(data[n : n + 1]))
    page = data.index(b"OggS", data.index(b"OpusTags"))
    assert heard_after < page + 600


def test_consecutive_opus_streams_are_decoded(encoded: dict[str, bytes]) -> None:
    made = create_decoder("opus", "s16le", 24000, 1)
    assert len(decode([encoded["mono.opus"], encoded["mono.opus"]], made)) == 4 * 24000


def test_opus_skips_junk_between_pages(encoded: dict[str, bytes]) -> None:
    pages = encoded["mono.opus"].split(b"OggS")[1:]
    data = b"OgOggOO".join(b"OggS" + page for page in pages)
    assert len(decode(bytewise(data), create_decoder("opus", "s16le", 24000, 1))) == 2 * 24000


def test_opus_continues_after_a_lost_page(encoded: dict[str, bytes]) -> None:
    pages = [b"OggS" + page for page in encoded["mono.opus"].split(b"OggS")[1:]]
    assert len(pages) >= 3
    pcm = decode([*pages[:2], pages[-1][40:]], create_decoder("opus", "s16le", 24000, 1))
    assert len(pcm) <= 2 * 24000


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=30))
def test_damaged_streams_raise_only_audio_errors(encoded: dict[str, bytes], damage: list[tuple[int, int]]) -> None:
    for name, container in (("mono.opus", "opus"), ("bare.mp3", "mp3")):
        data = bytearray(encoded[name])
        for at, value in damage:
            data[at % len(data)] = value
        made = create_decoder(container, "s16le", 24000, 1)
        try:
            pcm = decode([bytes(data[n : n + 500]) for n in range(0, len(data), 500)], made)
        except AudioError:
            continue
        assert len(pcm) < 2_000_000


@pytest.mark.parametrize("kind", [b"\x01vorbis", b"\x7fFLAC"])
def test_ogg_with_another_codec_is_named_in_the_error(kind: bytes) -> None:
    page = b"OggS\0\x02" + bytes(8) + b"\1\0\0\0" + bytes(8) + b"\1\x1e" + kind.ljust(30, b"\0")
    with pytest.raises(AudioError, match="Ogg (Vorbis|FLAC)"):
        create_decoder("opus", "s16le", 24000, 1).feed(page)


@pytest.mark.parametrize(("container", "package"), [("mp3", "libmpg123-0"), ("opus", "libopus0")])
def test_missing_library_error_names_its_package(monkeypatch: pytest.MonkeyPatch, container: str, package: str) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(AudioError, match=f"Install the package {package}"):
        create_decoder(container, "s16le", 24000, 1)


@pytest.mark.parametrize("container", ["mp3", "opus"])
def test_unfinished_decoders_leak_no_memory(encoded: dict[str, bytes], container: str) -> None:
    """An utterance may be cancelled at any moment, without a call of ``finish``."""
    data = encoded["mono.mp3" if container == "mp3" else "mono.opus"]

    for count in (30, 150):
        before = resident_kib()
        for _ in range(count):
            create_decoder(container, "s16le", 24000, 1).feed(data[:3000])
        grown = resident_kib() - before
    assert grown < 2048

"""Sound as services send it, cut into pieces at every place, comes out as the samples that went in."""

from __future__ import annotations

import array
import ctypes
import math
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.decoders.decoder import Decoder, decoder
from agent.audio.decoders.opus import OggReader
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
    """A tone of one second, 24 kHz mono, as mp3 and as Opus; Opus also with pages of a second, and in stereo."""
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
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def loudest_hertz(pcm: bytes, rate: int, channels: int = 1) -> float:
    """Frequency by counting zero crossings in the middle of the sound."""
    samples = array.array("h", pcm)[::channels]
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    rises = sum(1 for a, b in zip(middle, middle[1:], strict=False) if a < 0 <= b)
    return rises * rate / len(middle)


# --- raw and WAV


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_raw_samples_come_out_as_they_went_in_however_they_are_cut(places: list[int]) -> None:
    made = decoder("raw", "s16le", 24000, 1)
    assert decode(cut(NOISE, places), made) == NOISE
    assert made.format == Format(24000)


@given(st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([None, 0, 0xFFFFFFFF, 4294967040]))
def test_a_header_is_taken_off_however_it_is_cut(places: list[int], size: int | None) -> None:
    made = decoder("wav", "s16le", 16000, 1)
    file = wav(NOISE, 44100, data_size=size, riff_size=size and min(size + 36, 0xFFFFFFFF))
    assert decode(cut(file, places), made) == NOISE
    assert made.format == Format(44100), "what the header says outranks what was asked for"


def test_every_byte_by_itself_is_enough() -> None:
    assert decode(bytewise(wav(NOISE)), decoder("wav", "s16le", 24000, 1)) == NOISE
    assert decode(bytewise(NOISE), decoder("raw", "s16le", 24000, 1)) == NOISE


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
def test_a_header_is_never_heard(container: str, layout: str) -> None:
    first, second = NOISE[:1000], NOISE[1000:]
    pieces = LAYOUTS[layout](first, second)
    assert decode(pieces, decoder(container, "s16le", 24000, 1)) == NOISE


def exact(body: bytes) -> bytes:
    return wav(body)


def endless(body: bytes) -> bytes:
    return wav(body, data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF)


def unsized(body: bytes) -> bytes:
    return wav(body, data_size=0, riff_size=0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 999])
@pytest.mark.parametrize("headed", [exact, endless, unsized])
def test_a_sample_is_heard_whole_although_a_header_stands_in_the_middle_of_it(
    headed: Callable[[bytes], bytes], size: int
) -> None:
    """A service puts a header before every piece and cuts its sound anywhere: the odd byte at the end of a piece was
    dropped, and everything after it was noise."""
    pieces = [headed(NOISE[at : at + size]) for at in range(0, 1000, size)]
    whole = NOISE[: len(range(0, 1000, size)) * size]
    assert decode(pieces, decoder("wav", "s16le", 24000, 1)) == whole[: len(whole) // 2 * 2]


@given(
    st.lists(st.integers(0, 10_000), max_size=12),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from([exact, endless, unsized]),
    st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_every_layout_is_heard_to_the_bit_however_it_is_cut(
    bodies: list[int], cuts: list[int], headed: Callable[[bytes], bytes], alone: list[bool]
) -> None:
    """The sound is cut into pieces anywhere, each gets a header, in the same message as its samples or in one of its
    own; and the messages are cut once more, in the middle of headers too."""
    pieces: list[bytes] = []
    for body, by_itself in zip(filter(None, cut(NOISE, bodies)), alone, strict=False):
        file = headed(body)
        head = len(file) - len(body)
        pieces += [file[:head], file[head:]] if by_itself else [file]
    for at, where in enumerate(cuts):
        place = (at * 7 + where) % len(pieces)
        pieces[place : place + 1] = [piece for piece in cut(pieces[place], [where]) if piece]
    assert decode(pieces, decoder("wav", "s16le", 24000, 1)) == NOISE


def test_a_header_split_over_messages_in_the_middle_of_the_stream_is_not_heard() -> None:
    second = wav(NOISE[1000:])
    pieces = [wav(NOISE[:1000]), second[:3], second[3:20], second[20:]]
    assert decode(pieces, decoder("wav", "s16le", 24000, 1)) == NOISE


def test_a_piece_that_begins_with_an_r_is_sound() -> None:
    sound = b"\x01\x02\x03" + b"RI" + b"\x05" + b"R" + b"\x06\x07\x08"
    pieces = [b"\x01\x02\x03", b"RI", b"\x05", b"R", b"\x06\x07\x08"]
    assert decode(pieces, decoder("raw", "s16le", 24000, 1)) == sound


def test_riff_inside_the_sound_is_sound() -> None:
    sound = b"\0" * 100 + b"RIFF\x10\0\0\0WAVE" + b"\0" * 100
    assert decode([wav(sound)], decoder("wav", "s16le", 24000, 1)) == sound


def test_chunks_before_and_after_the_sound_are_not_heard() -> None:
    junk = b"LIST" + struct.pack("<I", 5) + b"abcde\0" + b"fact" + struct.pack("<I", 4) + b"\0\0\0\0"
    for pieces in ([wav(NOISE, before=junk, after=junk)], bytewise(wav(NOISE, before=junk, after=junk))):
        assert decode(pieces, decoder("wav", "s16le", 24000, 1)) == NOISE
    unknown_length = wav(NOISE, after=junk, riff_size=0xFFFFFFFF)
    assert decode([unknown_length], decoder("wav", "s16le", 24000, 1)) == NOISE


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
def test_other_samples_become_16_bits(tag: int, bits: int, data: bytes, samples: list[int]) -> None:
    out = decode([wav(data, 8000, tag=tag, bits=bits)], decoder("wav", "s16le", 24000, 1))
    assert list(array.array("h", out)) == samples


def test_companded_samples_without_a_header_are_decoded() -> None:
    made = decoder("raw", "mulaw", 8000, 1)
    assert list(array.array("h", decode([b"\xff", b"\x00"], made))) == [0, -32124]
    assert made.format == Format(8000)


def test_samples_that_cannot_be_played_are_refused_in_words() -> None:
    with pytest.raises(AudioError, match="32-bit floating point"):
        decode([wav(NOISE, tag=3, bits=32)], decoder("wav", "s16le", 24000, 1))
    with pytest.raises(AudioError, match="changes from 24000 Hz mono to 16000 Hz mono"):
        decode([wav(NOISE, 24000), wav(NOISE, 16000)], decoder("wav", "s16le", 24000, 1))


@pytest.mark.parametrize("container", ["raw", "wav"])
@pytest.mark.parametrize("name", ["mono.mp3", "bare.mp3", "tagged.mp3", "mono.opus"])
def test_compressed_sound_is_refused_where_samples_are_expected(
    encoded: dict[str, bytes], container: str, name: str
) -> None:
    """A service whose default is mp3 was once played as noise."""
    for size in (1, 7, 1024, 100_000):
        made = decoder(container, "s16le", 24000, 1)
        data = encoded[name]
        with pytest.raises(AudioError, match="uncompressed sound was expected, but (mp3|Ogg) came"):
            decode([data[n : n + size] for n in range(0, len(data), size)], made)


def test_quiet_samples_that_look_like_mp3_are_heard() -> None:
    quiet = array.array("h", [-1025, -28545, 3, 4] * 2000).tobytes()  # ff fb 7f 90
    assert decode([quiet[:5], quiet[5:]], decoder("raw", "s16le", 24000, 1)) == quiet


def test_an_ogg_page_without_a_segment_is_passed_over() -> None:
    """Twenty-seven bytes from a service were enough to end the thread that owns its socket."""
    page = b"OggS" + bytes(23)
    assert list(OggReader().feed(page * 3)) == []


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(PARTS))))
def test_junk_never_raises_anything_but_words_and_never_loops(pieces: list[bytes]) -> None:
    for container, samples in KINDS:
        made = decoder(container, samples, 24000, 1)
        try:
            out = decode(pieces, made)
        except AudioError:
            continue
        assert len(out) <= 2 * sum(map(len, pieces)) or container in ("opus", "mp3")


@settings(max_examples=200)
@given(st.lists(st.integers(0, 10_000), max_size=6), st.integers(0, 43), st.integers(0, 255))
def test_a_damaged_header_never_raises_anything_but_words(places: list[int], at: int, value: int) -> None:
    file = bytearray(wav(NOISE))
    file[at] = value
    try:
        decode(cut(bytes(file), places), decoder("wav", "s16le", 24000, 1))
    except AudioError as error:
        assert str(error)


@pytest.mark.parametrize("container", ["flac", "aac", ""])
def test_a_format_that_cannot_be_decoded_is_named(container: str) -> None:
    with pytest.raises(AudioError, match="cannot be decoded: use wav, raw, mp3 or opus"):
        decoder(container, "s16le", 24000, 1)


# --- mp3


@pytest.mark.parametrize("name", ["mono.mp3", "bare.mp3", "tagged.mp3"])
@pytest.mark.parametrize("size", [1, 100, 1024, 1_000_000])
def test_mp3_sounds_as_it_was_encoded(encoded: dict[str, bytes], name: str, size: int) -> None:
    made = decoder("mp3", "s16le", 44100, 1)
    data = encoded[name]
    pcm = decode([data[n : n + size] for n in range(0, len(data), size)], made)
    assert made.format == Format(24000)
    assert abs(Format(24000).seconds_of(len(pcm)) - 1.0) < 0.1
    assert abs(loudest_hertz(pcm, 24000) - 440) < 5


def test_mp3_is_heard_within_the_first_chunks(encoded: dict[str, bytes]) -> None:
    made = decoder("mp3", "s16le", 24000, 1)
    assert len(made.feed(encoded["mono.mp3"][:1500])) > 2 * 1000


def test_one_mp3_after_the_other_is_heard(encoded: dict[str, bytes]) -> None:
    made = decoder("mp3", "s16le", 24000, 1)
    pcm = decode([encoded["mono.mp3"], encoded["mono.mp3"]], made)
    assert abs(Format(24000).seconds_of(len(pcm)) - 2.0) < 0.15


def test_mp3_with_junk_in_it_goes_on_after_the_junk(encoded: dict[str, bytes]) -> None:
    data = encoded["bare.mp3"]
    made = decoder("mp3", "s16le", 24000, 1)
    pcm = decode([b"\x00garbage" * 50, data[:4000], NOISE, data[4000:]], made)
    assert Format(24000).seconds_of(len(pcm)) > 0.8


@pytest.mark.parametrize("container", ["mp3", "opus"])
def test_what_is_not_the_expected_format_is_refused(container: str) -> None:
    with pytest.raises(AudioError, match="was expected, but none came"):
        decode([b"\0" * 1000], decoder(container, "s16le", 24000, 1))
    with pytest.raises(AudioError, match="was expected, but none came"):
        decoder(container, "s16le", 24000, 1).feed(b"\0" * 200_000)
    assert decode([], decoder(container, "s16le", 24000, 1)) == b""


# --- Opus


@pytest.mark.parametrize("name", ["mono.opus", "long.opus"])
@pytest.mark.parametrize("size", [1, 100, 1024, 1_000_000])
@pytest.mark.parametrize("rate", [24000, 48000])
def test_opus_is_as_long_as_it_was_to_the_sample(encoded: dict[str, bytes], name: str, size: int, rate: int) -> None:
    made = decoder("opus", "s16le", rate, 1)
    data = encoded[name]
    pcm = decode([data[n : n + size] for n in range(0, len(data), size)], made)
    assert made.format == Format(rate)
    assert len(pcm) == 2 * rate
    assert abs(loudest_hertz(pcm, rate) - 440) < 5


def test_opus_in_stereo_stays_stereo(encoded: dict[str, bytes]) -> None:
    made = decoder("opus", "s16le", 44100, 1)
    pcm = decode([encoded["stereo.opus"]], made)
    assert made.format == Format(48000, 2)
    assert len(pcm) == 4 * 48000
    assert abs(loudest_hertz(pcm, 48000, 2) - 440) < 5


def test_opus_is_heard_before_its_page_is_complete(encoded: dict[str, bytes]) -> None:
    """Pages may hold a second of sound: whoever waits for them adds a second to every first word."""
    data = encoded["long.opus"]
    made = decoder("opus", "s16le", 24000, 1)
    heard_after = next(n for n in range(len(data)) if made.feed(data[n : n + 1]))
    page = data.index(b"OggS", data.index(b"OpusTags"))
    assert heard_after < page + 600


def test_one_opus_stream_after_the_other_is_heard(encoded: dict[str, bytes]) -> None:
    made = decoder("opus", "s16le", 24000, 1)
    assert len(decode([encoded["mono.opus"], encoded["mono.opus"]], made)) == 4 * 24000


def test_opus_with_junk_between_the_pages_loses_nothing(encoded: dict[str, bytes]) -> None:
    pages = encoded["mono.opus"].split(b"OggS")[1:]
    data = b"OgOggOO".join(b"OggS" + page for page in pages)
    assert len(decode(bytewise(data), decoder("opus", "s16le", 24000, 1))) == 2 * 24000


def test_a_lost_page_of_opus_is_survived(encoded: dict[str, bytes]) -> None:
    pages = [b"OggS" + page for page in encoded["mono.opus"].split(b"OggS")[1:]]
    assert len(pages) >= 3
    pcm = decode([*pages[:2], pages[-1][40:]], decoder("opus", "s16le", 24000, 1))
    assert len(pcm) <= 2 * 24000


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=30))
def test_damaged_streams_never_crash(encoded: dict[str, bytes], damage: list[tuple[int, int]]) -> None:
    for name, container in (("mono.opus", "opus"), ("bare.mp3", "mp3")):
        data = bytearray(encoded[name])
        for at, value in damage:
            data[at % len(data)] = value
        made = decoder(container, "s16le", 24000, 1)
        try:
            pcm = decode([bytes(data[n : n + 500]) for n in range(0, len(data), 500)], made)
        except AudioError:
            continue
        assert len(pcm) < 2_000_000


@pytest.mark.parametrize("kind", [b"\x01vorbis", b"\x7fFLAC"])
def test_an_ogg_with_something_else_in_it_is_named(kind: bytes) -> None:
    page = b"OggS\0\x02" + bytes(8) + b"\1\0\0\0" + bytes(8) + b"\1\x1e" + kind.ljust(30, b"\0")
    with pytest.raises(AudioError, match="the Ogg holds (Vorbis|FLAC), which cannot be decoded"):
        decoder("opus", "s16le", 24000, 1).feed(page)


@pytest.mark.parametrize(("container", "package"), [("mp3", "libmpg123-0"), ("opus", "libopus0")])
def test_a_missing_library_is_named_by_its_package(
    monkeypatch: pytest.MonkeyPatch, container: str, package: str
) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(AudioError, match=f"install the package {package}$"):
        decoder(container, "s16le", 24000, 1)


@pytest.mark.parametrize("container", ["mp3", "opus"])
def test_decoders_that_are_let_go_leave_nothing_behind(encoded: dict[str, bytes], container: str) -> None:
    """An utterance may be cut at any moment: nobody tells its decoder."""
    data = encoded["mono.mp3" if container == "mp3" else "mono.opus"]

    def resident_kib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    for count in (30, 150):
        before = resident_kib()
        for _ in range(count):
            decoder(container, "s16le", 24000, 1).feed(data[:3000])
        grown = resident_kib() - before
    assert grown < 2048


def test_an_ogg_page_without_segments_is_passed_over() -> None:
    """Junk that looked like such a page used to raise an IndexError."""
    assert list(OggReader().feed(b"OggS" + bytes(23) + b"OggS" + bytes(22) + b"\1\3abc"))[0].data == b"abc"

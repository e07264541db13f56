"""WAV files: every layout of 16-bit PCM is read, nothing half-written is left, and a refusal helps."""

import os
import struct
import subprocess
import sys
import threading
import wave
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio import wav
from agent.audio.format import Format
from agent.audio.wav import PLACEHOLDER, WavReader, WavWriter, read_wav, wav_header
from agent.errors import AudioError

MONO = Format(22050)
SOUND = bytes(range(200)) * 5


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) & 1)


def fmt(tag: int = 1, channels: int = 1, rate: int = 22050, bits: int = 16, more: bytes = b"") -> bytes:
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + more)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "in.wav"
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_wav(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


# --- reading


def test_the_header_is_the_one_the_standard_library_understands(tmp_path: Path) -> None:
    path = saved(tmp_path, wav_header(Format(44100, 2), len(SOUND)) + SOUND)
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (44100, 2, 2)
        assert file.readframes(10**6) == SOUND
    assert len(wav_header(MONO, None)) == wav.HEADER_BYTES


def test_a_file_of_the_standard_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48000, 0, "NONE", ""))
        file.writeframes(SOUND)
    assert read_wav(path) == (Format(48000, 2), SOUND)


def test_other_chunks_also_of_odd_length_are_passed_over(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        riff(
            chunk(b"JUNK", b"x" * 33),
            fmt(),
            chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0"),
            chunk(b"fact", bytes(4)),
            chunk(b"data", SOUND),
            chunk(b"LIST", b"this is not heard"),
        ),
    )
    assert read_wav(path) == (MONO, SOUND)


def test_an_extensible_header_that_says_pcm_is_pcm(tmp_path: Path) -> None:
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    header = fmt(0xFFFE, 2, 48000, 16, struct.pack("<HHI", 22, 16, 3) + guid)
    assert read_wav(saved(tmp_path, riff(header, chunk(b"data", SOUND)))) == (Format(48000, 2), SOUND)


def test_an_extensible_header_that_says_float_is_refused(tmp_path: Path) -> None:
    guid = struct.pack("<H", 3) + bytes.fromhex("000000001000800000aa00389b71")
    header = fmt(0xFFFE, 1, 48000, 32, struct.pack("<HHI", 22, 32, 4) + guid)
    assert "floating-point samples" in refusal(saved(tmp_path, riff(header, chunk(b"data", SOUND))))


@pytest.mark.parametrize("size", [0, PLACEHOLDER, 4294967040, 0x7FFFFFFF])
def test_a_placeholder_size_means_to_the_end_of_the_file(tmp_path: Path, size: int) -> None:
    path = saved(tmp_path, riff(fmt(), chunk(b"data", SOUND, size), size=4294967076))
    assert read_wav(path) == (MONO, SOUND)


def test_a_size_of_nothing_in_a_whole_file_is_no_placeholder(tmp_path: Path) -> None:
    path = saved(tmp_path, riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"not heard")))
    assert read_wav(path) == (MONO, b"")


def test_a_file_cut_short_gives_the_whole_samples_it_has(tmp_path: Path) -> None:
    path = saved(tmp_path, riff(fmt(channels=2), chunk(b"data", SOUND))[:-3])
    assert read_wav(path) == (Format(22050, 2), SOUND[:-4])


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    content = riff(fmt(), chunk(b"LIST", b"abc"), chunk(b"data", SOUND, PLACEHOLDER), size=PLACEHOLDER)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert read_wav(pipe) == (MONO, SOUND)
    writer.join(10)


def test_reading_in_pieces_gives_the_same_sound_in_whole_samples(tmp_path: Path) -> None:
    path = saved(tmp_path, riff(fmt(channels=2), chunk(b"data", SOUND)))
    with WavReader(path) as reader:
        pieces = list(iter(lambda: reader.read(150), b""))
        assert reader.read() == b""
    assert b"".join(pieces) == SOUND
    assert {len(piece) % 4 for piece in pieces} == {0}
    with WavReader(path) as reader:
        assert reader.read(1) == SOUND[:4]


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (fmt(bits=8), "8-bit"),
        (fmt(bits=24), "24-bit"),
        (fmt(bits=32), "32-bit"),
        (fmt(3, bits=32), "floating-point"),
        (fmt(6, bits=8), "A-law"),
        (fmt(7, bits=8), "mu-law"),
        (fmt(0x55, bits=0), "MP3"),
        (fmt(0x1234), "format 0x1234"),
    ],
)
def test_other_samples_are_refused_and_the_way_out_is_named(tmp_path: Path, header: bytes, kind: str) -> None:
    message = refusal(saved(tmp_path, riff(header, chunk(b"data", SOUND))))
    assert f"{kind}" in message and "16-bit PCM" in message and "ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: name a WAV file"),
        (b"ID3\x04\0 an mp3 file", "is not a WAV file"),
        (b"RIFF\0\0\0\0AVI and so on", "is not a WAV file"),
        (b"RIFF", "is not a WAV file"),
        (riff(fmt()), "no sound in it"),
        (riff(chunk(b"data", SOUND)), "its sound before its format"),
        (riff(chunk(b"fmt ", b"short"), chunk(b"data", SOUND)), "too short"),
        (riff(chunk(b"fmt ", bytes(2000)), chunk(b"data", SOUND)), "a fmt chunk of 2000 bytes"),
        (riff(fmt(rate=0), chunk(b"data", SOUND)), "damaged"),
        (riff(fmt(channels=0), chunk(b"data", SOUND)), "damaged"),
        (riff(*[chunk(b"JUNK", b"")] * 2000), "no sound in it"),
    ],
)
def test_what_is_no_wav_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(saved(tmp_path, content))


def test_a_file_that_is_not_there_or_a_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.wav")
    assert "Is a directory" in refusal(tmp_path)


def test_more_sound_than_memory_should_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "LARGEST_READ_BYTES", 500)
    assert "cut it into parts" in refusal(saved(tmp_path, riff(fmt(), chunk(b"data", SOUND))))


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_damaged_files_raise_nothing_but_an_audio_error(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for content in (tail, b"RIFF\xff\xff\xff\xffWAVE" + tail, riff(fmt())[:-1] + tail):
        try:
            format, sound = read_wav(saved(folder, content))
        except AudioError:
            continue
        assert len(sound) % format.frame_bytes == 0


# --- writing


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    writer = WavWriter(path, Format(16000, 2))
    writer.write(SOUND)
    writer.write(SOUND)
    assert not path.exists()
    writer.close()
    writer.close()
    writer.abandon()
    assert read_wav(path) == (Format(16000, 2), SOUND * 2)
    with wave.open(str(path)) as file:
        assert file.getnframes() == len(SOUND) // 2
    assert os.listdir(tmp_path) == ["out.wav"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_without_sound_is_whole_too(tmp_path: Path) -> None:
    WavWriter(tmp_path / "out.wav", MONO).close()
    assert read_wav(tmp_path / "out.wav") == (MONO, b"")


def test_an_abandoned_file_leaves_nothing_and_what_was_there_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    writer = WavWriter(path, MONO)
    writer.write(SOUND)
    writer.abandon()
    writer.abandon()
    writer.close()
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"before")
    writer = WavWriter(path, MONO)
    writer.write(SOUND)
    writer.abandon()
    assert os.listdir(tmp_path) == ["out.wav"] and path.read_bytes() == b"before"


def test_an_exception_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WavWriter(tmp_path / "out.wav", MONO) as writer:
        writer.write(SOUND)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    with WavWriter(tmp_path / "out.wav", MONO) as writer:
        writer.write(SOUND)
    assert read_wav(tmp_path / "out.wav") == (MONO, SOUND)


def test_a_file_that_is_replaced_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "out.wav", tmp_path / "link.wav"
    path.write_bytes(b"")
    path.chmod(0o600)
    link.symlink_to(path)
    WavWriter(link, MONO).close()
    assert link.is_symlink() and read_wav(path) == (MONO, b"")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_place_where_no_file_can_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for path, why in [
        (tmp_path / "none" / "out.wav", "No such file or directory"),
        (tmp_path, "not an ordinary file"),
        (Path("/dev/null"), "not an ordinary file"),
        (tmp_path / ("x" * 300), "name too long"),
    ]:
        with pytest.raises(AudioError, match=f"cannot be written.*{why}"):
            WavWriter(path, MONO)
    assert Path("/dev/null").is_char_device() and os.listdir(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files, in a process of its own, stands for a disk that is full."""
    code = (
        "import resource, signal, sys\n"
        "from agent.audio.format import Format\n"
        "from agent.audio.wav import WavWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "writer = WavWriter(sys.argv[1], Format(22050))\n"
        "for _ in range(1000): writer.write(bytes(1000))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out.wav")], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.stderr.strip().splitlines()[-1].startswith("agent.errors.AudioError")
    assert "cannot be written (File too large): name a file in a folder with room" in run.stderr
    assert os.listdir(tmp_path) == []

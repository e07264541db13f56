"""The output of ``say``: the suffix decides the format, and a file of another format is never faked."""

from __future__ import annotations

import array
import ctypes
import math
import os
from pathlib import Path

import pytest
import soundfile
from support.wav import read_wav

from agent.audio.format import Format
from agent.cli.file_output import FileOutput, ReadyWriter, check_writable
from agent.errors import AudioError


def tone(format: Format, seconds: float = 1.0) -> bytes:
    values = [round(12000 * math.sin(2 * math.pi * 440 * n / format.rate)) for n in range(round(seconds * format.rate))]
    return array.array("h", [value for value in values for _ in range(format.channels)]).tobytes()


def write(path: Path, format: Format, *, complete: bool = True) -> None:
    output = FileOutput(str(path))
    sink = output.open(format)
    pcm, step = tone(format), format.bytes_of(0.02)
    for start in range(0, len(pcm), step):
        sink(pcm[start : start + step])
    output.end(complete=complete)


@pytest.mark.parametrize("format", [Format(22050), Format(24000, 2), Format(44100), Format(8000)], ids=str)
@pytest.mark.parametrize(("name", "kind"), [("o.mp3", "MP3"), ("o.MP3", "MP3"), ("o.opus", "OGG")])
def test_suffix_selects_the_encoder(tmp_path: Path, format: Format, name: str, kind: str) -> None:
    write(tmp_path / name, format)
    info = soundfile.info(tmp_path / name)
    assert info.format == kind and info.channels == 1
    samples, rate = soundfile.read(tmp_path / name)
    assert abs(len(samples) / rate - 1.0) < 0.2  # mp3 holds the delay of the encoder
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    rises = sum(1 for a, b in zip(middle, middle[1:], strict=False) if a < 0 <= b)
    assert abs(rises * rate / len(middle) - 440) < 8


@pytest.mark.parametrize("name", ["o.wav", "o.WAV", "o", "tmp.Ab3dE9", "o.wave", "mp3"])
def test_other_names_are_wav(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, Format(22050))
    assert read_wav(tmp_path / name) == (Format(22050), tone(Format(22050)))


@pytest.mark.parametrize("name", ["o.flac", "o.ogg", "o.m4a", "o.AIFF", "o.aac", "o.raw", "o.w64"])
def test_suffix_of_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match=rf"{name} cannot be written: .*Use \.wav, \.mp3 or \.opus"):
        FileOutput(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o.mp3", "o.opus", "o.flac"])
def test_place_for_wav_files_only_refuses_all_other_formats(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match=rf"{name} cannot be written: .*Use \.wav"):
        check_writable(str(tmp_path / name))


@pytest.mark.parametrize("name", ["o.mp3", "o.opus", "o.wav"])
def test_incomplete_file_leaves_the_older_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"older")
    write(tmp_path / name, Format(22050), complete=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"older"


@pytest.mark.parametrize(("name", "package"), [("o.mp3", "libmp3lame0"), ("o.opus", "libopus0")])
def test_missing_encoder_is_named_before_the_speech(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(AudioError, match=package):
        FileOutput(str(tmp_path / name))


def test_missing_folder_is_named(tmp_path: Path) -> None:
    for name in ("o.mp3", "o.opus", "o.wav"):
        with pytest.raises(AudioError, match="nowhere"):
            FileOutput(str(tmp_path / "nowhere" / name))


def test_ready_writer_fills_a_pipe_and_never_blocks() -> None:
    reading, writing = os.pipe()
    try:
        data = bytes(range(256)) * 1024
        writer = ReadyWriter(writing)
        rest = memoryview(data)
        while taken := writer.write(rest):
            rest = rest[taken:]
        received = os.read(reading, 1 << 20)
        assert len(received) >= 4096 and received == data[: len(data) - len(rest)]
        taken = writer.write(rest)
        assert taken and os.read(reading, 1 << 20) == bytes(rest[:taken])
        os.close(writing)
        writer.close()
        assert os.read(reading, 1) == b"" and writer.write(rest) == 0
    finally:
        os.close(reading)


def test_ready_writer_leaves_the_error_of_a_closed_pipe_to_the_next_write() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert ReadyWriter(writing).write(memoryview(b"ab")) == 0
    os.close(writing)

"""WAV writer: complete files or none, and errors with a cure."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from support.wav import read_wav

from agent.audio import wav_writer as wav
from agent.audio.format import Format
from agent.audio.wav_writer import WavWriter, wav_header
from agent.errors import AudioError

MONO = Format(22050)
SOUND = bytes(range(200)) * 5


def test_header_is_readable_by_the_standard_library(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    path.write_bytes(wav_header(Format(44100, 2), len(SOUND)) + SOUND)
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (44100, 2, 2)
        assert file.readframes(10**6) == SOUND
    assert len(wav_header(MONO, None)) == wav.HEADER_BYTES


def test_written_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    writer = WavWriter(path, Format(16000, 2))
    writer.write(SOUND)
    writer.write(SOUND)
    assert not path.exists()
    writer.close()
    writer.close()
    writer.discard()
    assert read_wav(path) == (Format(16000, 2), SOUND * 2)
    with wave.open(str(path)) as file:
        assert file.getnframes() == len(SOUND) // 2
    assert os.listdir(tmp_path) == ["out.wav"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_file_without_audio_is_valid(tmp_path: Path) -> None:
    WavWriter(tmp_path / "out.wav", MONO).close()
    assert read_wav(tmp_path / "out.wav") == (MONO, b"")


def test_discard_leaves_the_folder_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    writer = WavWriter(path, MONO)
    writer.write(SOUND)
    writer.discard()
    writer.discard()
    writer.close()
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"before")
    writer = WavWriter(path, MONO)
    writer.write(SOUND)
    writer.discard()
    assert os.listdir(tmp_path) == ["out.wav"] and path.read_bytes() == b"before"


def test_close_keeps_mode_and_symbolic_link(tmp_path: Path) -> None:
    path, link = tmp_path / "out.wav", tmp_path / "link.wav"
    path.write_bytes(b"")
    path.chmod(0o600)
    link.symlink_to(path)
    WavWriter(link, MONO).close()
    assert link.is_symlink() and read_wav(path) == (MONO, b"")
    assert path.stat().st_mode & 0o777 == 0o600


def test_unwritable_path_raises_an_error(tmp_path: Path) -> None:
    for path, why in [
        (tmp_path / "none" / "out.wav", "No such file or directory"),
        (tmp_path, "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / ("x" * 300), "name too long"),
    ]:
        with pytest.raises(AudioError, match=f"cannot be written.*{why}"):
            WavWriter(path, MONO)
    assert Path("/dev/null").is_char_device() and os.listdir(tmp_path) == []


def test_full_disk_raises_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the file size, in a separate process, stands for a full disk."""
    code = (
        "import resource, signal, sys\n"
        "from agent.audio.format import Format\n"
        "from agent.audio.wav_writer import WavWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "writer = WavWriter(sys.argv[1], Format(22050))\n"
        "for _ in range(1000): writer.write(bytes(1000))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out.wav")], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr.strip().splitlines()[-1].startswith("agent.errors.AudioError")
    assert "cannot be written: File too large. Use a directory with free space" in run.stderr
    assert os.listdir(tmp_path) == []

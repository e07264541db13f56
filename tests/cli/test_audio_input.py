"""Files and stdin as frames that each fit one message."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
import threading
import wave
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from agent.audio.devices.file import read_speech
from agent.cli.audio_input import FileFrames, PipeFrames, StdinFrames
from agent.errors import UsageError


def write_wav(path: Path, samples: int, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(number.to_bytes(2, "little") for number in range(samples)))
    return path


@pytest.mark.parametrize("frame_seconds", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("samples", [1600, 1607, 3200, 16007, 17599, 17600, 40000])
def test_file_frames_have_the_length_of_a_message(tmp_path: Path, samples: int, frame_seconds: float) -> None:
    path = write_wav(tmp_path / "question.wav", samples)
    frames = FileFrames(path, frame_seconds)
    taken = []
    while frames.frame_count:
        taken += frames.take(4)
    frames.release()
    assert b"".join(taken) == b"".join(read_speech(path))
    assert all(3200 <= len(frame) <= 32000 and len(frame) % 2 == 0 for frame in taken), [len(each) for each in taken]


def test_stdin_frames_hold_back_no_live_audio_and_append_a_short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        frames = StdinFrames(0.1)
        os.write(write_end, bytes(3200))
        assert [len(frame) for frame in frames.take(4)] == [3200]
        os.write(write_end, bytes(100))
        assert [len(frame) for frame in frames.take(4)] == [100]
        os.write(write_end, bytes(3 * 3200 + 14))
        assert [len(frame) for frame in frames.take(2)] == [3200, 3200]
        assert frames.frame_count and not frames.is_closed
        os.close(write_end)
        assert [len(frame) for frame in frames.take(4)] == [3214]
        assert frames.take(4) == [] and frames.is_closed and not frames.frame_count


@pytest.mark.parametrize("position", [0, 2, 3200, 31999 * 2, 40000 * 2, 90000])
def test_a_file_is_read_again_from_any_position(tmp_path: Path, position: int) -> None:
    path = write_wav(tmp_path / "question.wav", 40000)
    whole = b"".join(read_speech(path))
    frames = FileFrames(path, 0.1)
    frames.take(7)
    assert frames.measure_rest() == pytest.approx(2.5 - 0.7)
    assert frames.rewind(position)
    taken = []
    while frames.frame_count and (frame := frames.take(1)):
        taken += frame
    assert b"".join(taken) == whole[position:]
    assert frames.seconds == pytest.approx(max(2.5, position / 32000)) and frames.measure_rest() <= 0
    frames.release()


def test_a_file_that_was_stopped_is_not_read_again(tmp_path: Path) -> None:
    frames = FileFrames(write_wav(tmp_path / "question.wav", 40000), 0.1)
    frames.close()
    assert not frames.rewind(0) and not frames.frame_count
    frames.release()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, FileIO]]:
    """A named pipe, and a file that writes to it and keeps it open."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with FileIO(os.open(path, os.O_RDWR | os.O_CLOEXEC), "wb") as writer:
        yield path, writer


def test_a_pipe_is_not_read_again(tmp_path: Path, pipe: tuple[Path, FileIO]) -> None:
    pipe[1].write(write_wav(tmp_path / "question.wav", 3200).read_bytes())
    frames = PipeFrames(pipe[0], 0.1)
    assert not frames.rewind(0) and frames.measure_rest() == 0.0
    frames.release()


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_pipe_is_read_as_far_as_its_audio_has_arrived(tmp_path: Path, pipe: tuple[Path, FileIO], rate: int) -> None:
    path = write_wav(tmp_path / "question.wav", 20000, rate)
    whole, wav = b"".join(read_speech(path)), path.read_bytes()
    pipe[1].write(wav[:9001])
    frames = PipeFrames(pipe[0], 0.1)
    taken = frames.take(100)
    assert taken and not frames.frame_count and not frames.is_closed
    assert frames.take(100) == []  # without a wait
    pipe[1].write(wav[9001:])
    pipe[1].close()
    while not frames.is_closed or frames.frame_count:
        taken += frames.take(100)
    assert b"".join(taken) == whole and frames.seconds == len(whole) / 32000
    frames.release()


def test_a_pipe_whose_header_arrives_in_pieces_is_read(tmp_path: Path, pipe: tuple[Path, FileIO]) -> None:
    path = write_wav(tmp_path / "question.wav", 3200)
    wav = path.read_bytes()
    pipe[1].write(wav[:5])

    def write_the_rest() -> None:
        while fcntl.ioctl(pipe[1].fileno(), termios.FIONREAD, bytes(4)) != bytes(4):  # until the first piece was read
            os.sched_yield()
        pipe[1].write(wav[5:])

    writer = threading.Thread(target=write_the_rest)
    writer.start()
    frames = PipeFrames(pipe[0], 0.1)
    writer.join()
    assert b"".join(frames.take(4)) == b"".join(read_speech(path))
    frames.release()


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"RIFF", "stdin holds a WAV file"),
        (b"RIFX\0\0\0\x24WAVEfmt ", "stdin holds a WAV file"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "stdin holds a WAV file"),
        (b"ID3\x04\0\0\0\0\0\0", "stdin holds mp3"),
        (b"OggS\0\x02", "stdin holds Ogg"),
        (b"fLaC\0\0\0\x22", "stdin holds FLAC"),
    ],
)
def test_stdin_without_raw_audio_is_named(monkeypatch: pytest.MonkeyPatch, start: bytes, says: str) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as stdin, open(write_end, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", stdin)
        frames = StdinFrames(0.1)
        writer.write(start)
        writer.close()
        with pytest.raises(UsageError, match=says):
            frames.take(1)


def test_stdin_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        frames = StdinFrames(0.1)
        with pytest.raises(UsageError, match="stdin cannot be read: Bad file descriptor"):
            frames.take(1)


def test_a_file_without_sound_has_no_frames(tmp_path: Path) -> None:
    path, pipe = write_wav(tmp_path / "nothing.wav", 0), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[path.read_bytes()])
    writer.start()
    for frames in (FileFrames(path, 0.1), PipeFrames(pipe, 0.1)):
        assert frames.take(1) == [] and frames.is_closed and frames.seconds == 0.0
        frames.release()
    writer.join()


def test_a_pipe_without_sound_has_no_descriptor(tmp_path: Path) -> None:
    """It is closed, and the next file of the process gets its number."""
    path, pipe = write_wav(tmp_path / "nothing.wav", 0), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[path.read_bytes()])
    writer.start()
    frames = PipeFrames(pipe, 0.1)
    writer.join()
    assert frames.is_closed and frames.fileno() == -1 and not frames.frame_count
    frames.release()


def test_stdin_is_read_again_if_it_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "question.raw"
    path.write_bytes(b"head" + bytes(range(200)) * 48)
    with path.open("rb", buffering=0) as stdin:
        stdin.read(4)
        monkeypatch.setattr(sys, "stdin", stdin)
        frames = StdinFrames(0.1)
        assert len(b"".join(frames.take(10))) == 9600 and frames.is_closed
        assert frames.rewind(3200) and not frames.is_closed
        assert (frames.position_seconds, frames.measure_rest(), frames.seconds) == (0.1, 0.2, 0.3)
        assert b"".join(frames.take(10)) == (bytes(range(200)) * 48)[3200:] and frames.seconds == 0.3
        frames.close()
        assert not frames.rewind(0)


def test_stdin_is_not_read_again_if_it_is_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as stdin, open(write_end, "wb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not StdinFrames(0.1).rewind(0)


def test_stdin_that_is_closed_during_a_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    read = os.read
    with open(read_end, "rb", buffering=0) as stdin, open(write_end, "wb", buffering=0):
        monkeypatch.setattr(sys, "stdin", stdin)
        frames = StdinFrames(0.1)
        os.write(write_end, bytes(32000))

        def read_while_another_thread_closes(descriptor: int, size: int) -> bytes:
            data = read(descriptor, size)
            frames.close()
            return data

        monkeypatch.setattr(os, "read", read_while_another_thread_closes)
        frames.take(4)
        assert frames.is_closed and not frames.frame_count and frames.fileno() == -1
        assert frames.take(4) == [] and not frames.rewind(0)


def test_a_file_that_is_closed_during_a_rewind_ends(tmp_path: Path) -> None:
    class ClosingPath(type(Path())):  # type: ignore[misc]
        def is_file(self) -> bool:
            frames.close()  # as another thread does
            return True

    frames = FileFrames(ClosingPath(write_wav(tmp_path / "question.wav", 40000)), 0.1)
    assert len(frames.take(4)) == 4
    frames.rewind(3200)
    assert frames.is_closed and not frames.frame_count and frames.take(4) == []
    frames.release()


def test_stdin_frames_hold_whole_samples_whatever_the_writer_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay starts with a frame: after half a sample it would send noise."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        frames, pcm, taken = StdinFrames(0.1), bytes(range(250)) * 20, []
        with open(write_end, "wb", buffering=0) as writer:
            for size in (1, 1000, 1, 998, 3000):
                writer.write(pcm[:size])
                pcm = pcm[size:]
                taken += frames.take(10)
                assert all(frame and len(frame) % 2 == 0 for frame in taken)
            writer.write(b"!")
        while not frames.is_closed or frames.frame_count:
            taken += frames.take(10)
        assert b"".join(taken) == bytes(range(250)) * 20 + b"!"

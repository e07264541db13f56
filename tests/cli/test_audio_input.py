"""Files and stdin as frames that each can be one message."""

from __future__ import annotations

import os
import sys
import wave
from pathlib import Path

import pytest

from agent.audio.devices.file import read_speech
from agent.cli.audio_input import FileFrames, StdinFrames


def _written(path: Path, samples: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"".join(number.to_bytes(2, "little") for number in range(samples)))
    return path


@pytest.mark.parametrize("frame_seconds", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("samples", [1600, 1607, 3200, 16007, 17599, 17600, 40000])
def test_no_frame_of_a_file_is_too_short_or_too_long_for_a_message(
    tmp_path: Path, samples: int, frame_seconds: float
) -> None:
    """What was left over at the end of a file went out alone: a message of 14 bytes before ``eof``."""
    path = _written(tmp_path / "asked.wav", samples)
    frames = FileFrames(path, frame_seconds)
    taken = []
    while frames.frame_count:
        taken += frames.take(4)
    frames.release()
    assert b"".join(taken) == b"".join(read_speech(path))
    assert all(3200 <= len(frame) <= 32000 and len(frame) % 2 == 0 for frame in taken), [len(each) for each in taken]


def test_a_tail_in_a_pipe_rides_on_the_frame_before_and_live_sound_is_never_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tail of what ``cat`` had piped in went out alone as well."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        frames = StdinFrames(0.1)
        os.write(writing, bytes(3200))
        assert [len(frame) for frame in frames.take(4)] == [3200]
        os.write(writing, bytes(100))
        assert [len(frame) for frame in frames.take(4)] == [100]
        os.write(writing, bytes(3 * 3200 + 14))
        assert [len(frame) for frame in frames.take(2)] == [3200, 3200]
        assert frames.frame_count and not frames.is_closed
        os.close(writing)
        assert [len(frame) for frame in frames.take(4)] == [3214]
        assert frames.take(4) == [] and frames.is_closed and not frames.frame_count

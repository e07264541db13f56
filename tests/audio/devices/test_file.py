"""Sources and sinks without a card: real time, and exact."""

from __future__ import annotations

import array
import itertools
import random
import resource
import threading
import time
from pathlib import Path

import pytest
from support.pace import quickest
from support.wav import read_wav

from agent.audio.devices import file as file_device
from agent.audio.devices.device import open_sink, open_source
from agent.audio.devices.file import FileSource, PacedSink
from agent.audio.format import SPEECH, Format
from agent.audio.wav_writer import wav_header
from agent.errors import AudioError


def noise(seconds: float, format: Format) -> bytes:
    return random.Random(3).randbytes(format.bytes_of(seconds))


def write_wav(path: Path, pcm: bytes, format: Format) -> Path:
    path.write_bytes(wav_header(format, len(pcm)) + pcm)
    return path


def test_a_file_is_played_once_in_real_time_and_then_is_silence(tmp_path: Path) -> None:
    said = noise(0.25, SPEECH)
    path = write_wav(tmp_path / "q.wav", said, SPEECH)

    def play() -> float:
        source = open_source(f"file:{path}", 0.1)
        assert isinstance(source, FileSource)
        began = time.monotonic()
        got = b"".join(source.read() for _ in range(3))
        assert not source.ended
        got += source.read()
        took = time.monotonic() - began
        assert source.ended
        assert got == said.ljust(SPEECH.bytes_of(0.4), b"\0")
        assert source.lost_frames == 0
        source.close()
        return took

    assert 0.39 < quickest(play, 0.8) < 0.8


def test_a_reader_that_is_late_gets_what_it_missed_and_one_that_stood_still_has_lost_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute of standing still it was read as fast as it could be, a minute of old sound at once."""
    said = noise(60.0, SPEECH)
    source = open_source(f"file:{write_wav(tmp_path / 'q.wav', said, SPEECH)}", 0.1)
    assert isinstance(source, FileSource)
    frame = SPEECH.bytes_of(0.1)
    got = [source.read()]
    threading.Event().wait(0.5)
    got += [source.read() for _ in range(6)]
    assert b"".join(got) == said[: 7 * frame] and source.lost_frames == 0
    monkeypatch.setattr(file_device, "MAX_LATE_SECONDS", 0.3)
    threading.Event().wait(0.8)
    after = source.read()
    lost = source.lost_frames * SPEECH.frame_bytes
    assert lost >= 6 * frame and lost % frame == 0
    assert after == said[7 * frame + lost :][:frame]
    source.close()


def test_a_file_in_another_format_is_heard_as_speech(tmp_path: Path) -> None:
    stereo = array.array("h", [1000, 1000] * 44100).tobytes()
    source = open_source(f"file:{write_wav(tmp_path / 'q.wav', stereo, Format(44100, 2))}", 0.5)
    frames = [source.read(), source.read()]
    source.close()
    assert [len(frame) for frame in frames] == [16000, 16000]
    middle = array.array("h", frames[0])[1000:]
    assert all(990 <= sample <= 1010 for sample in middle)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"This is a letter, not a sound.", "is no WAV file"),
        (b"ID3\x04" + bytes(100), "is no WAV file"),
        (b"", "is no WAV file"),
        (wav_header(SPEECH, 0)[:20] + b"\x03\0" + wav_header(SPEECH, 0)[22:], "floating point"),
    ],
)
def test_a_file_that_is_no_wav_is_refused_when_it_is_opened(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "q.wav").write_bytes(content)
    with pytest.raises(AudioError, match=says):
        open_source(f"file:{tmp_path / 'q.wav'}", 0.1)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="missing.wav cannot be read: No such file"):
        open_source(f"file:{tmp_path / 'missing.wav'}", 0.1)


def test_no_microphone_is_silence_in_real_time() -> None:
    def listen() -> float:
        source = open_source("none", 0.1)
        began = time.monotonic()
        assert [source.read() for _ in range(3)] == [bytes(3200)] * 3
        took = time.monotonic() - began
        source.close()
        return took

    assert 0.29 < quickest(listen, 0.6) < 0.6


def test_a_late_reader_gets_every_frame_at_once() -> None:
    def come_late() -> float:
        source = open_source("none", 0.1)
        source.read()
        threading.Event().wait(0.35)
        began = time.monotonic()
        for _ in range(3):
            source.read()
        took = time.monotonic() - began
        source.close()
        return took

    assert quickest(come_late, 0.08) < 0.08


def test_close_ends_a_read_that_waits() -> None:
    source = open_source("none", 100.0)
    timer = threading.Timer(0.1, source.close)
    timer.start()
    began = time.monotonic()
    source.read()
    assert time.monotonic() - began < 30.0
    timer.join()


def test_what_is_heard_is_recorded_to_the_sample(tmp_path: Path) -> None:
    format = Format(24000)
    sound = noise(0.3, format)
    paths = (tmp_path / f"reply {number}.wav" for number in itertools.count())
    written, drained = [], []

    def record() -> float:
        path = next(paths)
        sink = open_sink(f"file:{path}", format, 0.02, 0.1)
        began = time.monotonic()
        for start in range(0, len(sound), 960):
            sink.write(sound[start : start + 960])
        written.append(time.monotonic() - began)
        sink.drain()
        drained.append(time.monotonic() - began)
        sink.write(sound)
        sink.drain()
        assert not path.exists(), "a recording appears when it is complete"
        sink.close()
        sink.close()
        assert read_wav(path) == (format, sound + sound)
        return drained[-1]

    quickest(record, 0.5)
    assert 0.18 < min(written) < 0.5, "all but the buffer has been heard"
    assert 0.29 < min(drained) < 0.7


def test_what_was_dropped_is_not_in_the_recording(tmp_path: Path) -> None:
    format = Format(24000)
    sink = open_sink(f"file:{tmp_path / 'reply.wav'}", format, 0.02, 0.5)
    sound = noise(0.6, format)
    began = time.monotonic()
    sink.write(sound)
    sink.drop()
    took = time.monotonic() - began
    sink.write(b"\x01\x02" * 100)
    sink.drain()
    sink.close()
    _, recorded = read_wav(tmp_path / "reply.wav")
    kept = recorded[:-200]
    assert recorded[-200:] == b"\x01\x02" * 100
    assert sound.startswith(kept) and format.bytes_of(0.09) < len(kept) <= format.bytes_of(took)


def test_no_speaker_swallows_in_real_time() -> None:
    format = Format(16000)
    sink = open_sink("none", format, 0.02, 0.05)
    assert isinstance(sink, PacedSink) and sink.format == format

    def swallow() -> float:
        began = time.monotonic()
        sink.write(bytes(format.bytes_of(0.3)))
        took = time.monotonic() - began
        sink.drop()
        sink.drain()
        return took

    assert 0.24 < quickest(swallow, 0.6) < 0.6
    sink.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nowhere"):
        open_sink(f"file:{tmp_path / 'nowhere' / 'reply.wav'}", SPEECH, 0.02, 0.1)


def test_a_recording_that_finds_no_more_room_is_told_once_and_closed_without_another_error(tmp_path: Path) -> None:
    """The speaker, closing it, died of a second one: "write to closed file" was all that anybody was told."""
    sink = open_sink(f"file:{tmp_path / 'heard.wav'}", SPEECH, 0.02, 0.0)
    sink.write(bytes(SPEECH.bytes_of(0.02)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(AudioError, match="cannot be written"):
            for _ in range(50):
                sink.write(bytes(SPEECH.bytes_of(0.02)))
        sink.drop()
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_recording_keeps_its_first_format_when_the_services_changes(tmp_path: Path) -> None:
    """A service of another rate used to begin the file anew: all that had been said before was lost."""
    path = tmp_path / "said.wav"
    sink = open_sink(f"file:{path}", Format(16000), 0.02, 0.1)
    sink.write(b"\x01\x10" * 1600)
    sink.drain()
    for format in (Format(48000), Format(24000, 2), Format(16000)):
        assert sink.change_format(format)
        assert sink.format == format
        sink.write(b"\x02\x10" * (format.rate // 10 * format.channels))
        sink.drain()
        assert sink.accepted_frames == 0
    sink.close()
    format, pcm = read_wav(path)
    assert format == Format(16000)
    assert len(pcm) == 4 * 3200
    assert pcm[:3200] == b"\x01\x10" * 1600
    assert pcm[-3200:] == b"\x02\x10" * 1600


def test_a_recording_of_more_than_two_channels_takes_no_other_format(tmp_path: Path) -> None:
    sink = open_sink(f"file:{tmp_path / 'said.wav'}", Format(16000, 6), 0.02, 0.1)
    assert not sink.change_format(Format(16000)) and sink.format == Format(16000, 6)
    sink.close()

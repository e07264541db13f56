"""Sources and sinks without a card: exact, and in real time."""

from __future__ import annotations

import array
import itertools
import os
import random
import resource
import threading
import time
from pathlib import Path

import pytest
import soundfile
from support.timing import fastest
from support.wav import read_wav

from agent.audio.devices.device import open_sink, open_source
from agent.audio.devices.file import FileSource, PacedSink, read_speech
from agent.audio.format import SPEECH, Format
from agent.audio.wav_recording import WavRecording
from agent.audio.wav_writer import wav_header
from agent.errors import AudioError


def noise(seconds: float, format: Format) -> bytes:
    return random.Random(3).randbytes(format.bytes_of(seconds))


def write_wav(path: Path, pcm: bytes, format: Format) -> Path:
    path.write_bytes(wav_header(format, len(pcm)) + pcm)
    return path


def test_file_source_plays_once_in_real_time_and_then_silence(tmp_path: Path) -> None:
    speech = noise(0.25, SPEECH)
    path = write_wav(tmp_path / "q.wav", speech, SPEECH)

    def play() -> float:
        source = open_source(f"file:{path}", 0.1)
        assert isinstance(source, FileSource)
        started_at = time.monotonic()
        audio = b"".join(source.read() for _ in range(3))
        assert not source.has_ended
        audio += source.read()
        elapsed = time.monotonic() - started_at
        assert source.has_ended
        assert audio == speech.ljust(SPEECH.bytes_of(0.4), b"\0")
        assert source.lost_samples == 0
        source.close()
        return elapsed

    assert 0.39 < fastest(play, 0.8) < 0.8


def test_reader_later_than_the_limit_loses_audio(tmp_path: Path) -> None:
    """Without the limit a suspended process would read all missed audio as fast as it can."""
    speech = noise(60.0, SPEECH)
    source = FileSource(write_wav(tmp_path / "q.wav", speech, SPEECH), 0.1, max_late_seconds=0.3)
    frame = SPEECH.bytes_of(0.1)
    before = [source.read()]
    while not source.lost_samples:  # a busy machine may be late from the start
        threading.Event().wait(0.8)
        before.append(source.read())
    lost = source.lost_samples * SPEECH.frame_bytes
    assert lost % frame == 0
    assert b"".join(before[:-1]) == speech[: (len(before) - 1) * frame]
    assert before[-1] == speech[(len(before) - 1) * frame + lost :][:frame]
    source.close()


def test_file_source_converts_to_speech(tmp_path: Path) -> None:
    stereo = array.array("h", [1000, 1000] * 44100).tobytes()
    source = open_source(f"file:{write_wav(tmp_path / 'q.wav', stereo, Format(44100, 2))}", 0.5)
    frames = [source.read(), source.read()]
    source.close()
    assert [len(frame) for frame in frames] == [16000, 16000]
    middle = array.array("h", frames[0])[1000:]
    assert all(990 <= sample <= 1010 for sample in middle)


@pytest.mark.parametrize("channel", [1, 3, 6])
def test_file_source_plays_one_channel_at_its_own_level(tmp_path: Path, channel: int) -> None:
    sound = array.array("h", [1000, 2000, 3000, 4000, 5000, 6000] * 16000).tobytes()
    source = open_source(f"file:{write_wav(tmp_path / 'q.wav', sound, Format(16000, 6))}", 0.5, channel=channel)
    frame = array.array("h", source.read())
    source.close()
    assert set(frame) == {1000 * channel}


def test_file_source_amplifies_and_clips(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "q.wav", array.array("h", [100, -20000] * 8000).tobytes(), SPEECH)
    source = open_source(f"file:{path}", 0.5, gain_db=20.0)
    frame = array.array("h", source.read())
    source.close()
    assert set(frame) == {1000, -32768}


def test_file_source_names_a_missing_channel(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "q.wav", bytes(6400), Format(16000, 2))
    with pytest.raises(AudioError, match="no channel 3, only 2. Choose a lower microphone.channel"):
        open_source(f"file:{path}", 0.1, channel=3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"This is text, not audio.", "is not a WAV file"),
        (b"ID3\x04" + bytes(100), "is not a WAV file"),
        (b"", "is not a WAV file"),
        (wav_header(SPEECH, 0)[:20] + b"\x11\0" + wav_header(SPEECH, 0)[22:], "ADPCM"),
        (wav_header(SPEECH, 0), "holds no sound"),
    ],
)
def test_file_source_rejects_a_file_that_is_no_wav(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "q.wav").write_bytes(content)
    with pytest.raises(AudioError, match=says):
        open_source(f"file:{tmp_path / 'q.wav'}", 0.1)


@pytest.mark.parametrize(
    ("rate", "channels", "suffix"),
    [(16000, 1, "s16"), (8000, 6, "s24"), (44100, 2, "f32"), (96000, 16, "s32"), (768_000, 1, "f64"), (999, 3, "u8")],
)
def test_file_source_plays_every_rate_and_number_of_channels(
    tmp_path: Path, rate: int, channels: int, suffix: str
) -> None:
    subtype = {"s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE", "u8": "PCM_U8"}
    seconds = 0.5
    level = [[0.25] * channels] * round(seconds * rate)
    soundfile.write(tmp_path / "q.wav", level, rate, subtype=subtype[suffix], format="WAVEX")
    speech = array.array("h", b"".join(read_speech(tmp_path / "q.wav")))
    assert len(speech) == round(16000 * seconds) or rate == 999
    middle = speech[len(speech) // 4 : len(speech) * 3 // 4]
    assert all(abs(sample - 8192) < 200 for sample in middle)


def test_file_through_a_pipe_is_played(tmp_path: Path) -> None:
    pipe, speech = tmp_path / "pipe", noise(1.0, SPEECH)
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_wav, args=(pipe, speech, SPEECH))
    writer.start()
    assert b"".join(read_speech(pipe)) == speech
    writer.join()


def test_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="missing.wav cannot be read: No such file"):
        open_source(f"file:{tmp_path / 'missing.wav'}", 0.1)


def test_silent_source_is_silence_in_real_time() -> None:
    def listen() -> float:
        source = open_source("none", 0.1)
        started_at = time.monotonic()
        assert [source.read() for _ in range(3)] == [bytes(3200)] * 3
        elapsed = time.monotonic() - started_at
        source.close()
        return elapsed

    assert 0.29 < fastest(listen, 0.6) < 0.6


def test_late_reader_gets_every_frame_at_once() -> None:
    def come_late() -> float:
        source = open_source("none", 0.1)
        source.read()
        threading.Event().wait(0.35)
        started_at = time.monotonic()
        for _ in range(3):
            source.read()
        elapsed = time.monotonic() - started_at
        source.close()
        return elapsed

    assert fastest(come_late, 0.08) < 0.08


def test_close_ends_a_blocked_read() -> None:
    source = open_source("none", 100.0)
    timer = threading.Timer(0.1, source.close)
    timer.start()
    started_at = time.monotonic()
    source.read()
    assert time.monotonic() - started_at < 30.0
    timer.join()


def test_recording_equals_the_played_audio(tmp_path: Path) -> None:
    format = Format(24000)
    sound = noise(0.3, format)
    paths = (tmp_path / f"reply {number}.wav" for number in itertools.count())
    written, drained = [], []

    def record() -> float:
        path = next(paths)
        sink = open_sink(f"file:{path}", format, 0.02, 0.1)
        started_at = time.monotonic()
        for start in range(0, len(sound), 960):
            sink.write(sound[start : start + 960])
        written.append(time.monotonic() - started_at)
        sink.drain()
        drained.append(time.monotonic() - started_at)
        sink.write(sound)
        sink.drain()
        assert read_wav(path) == (format, sound + sound), "a recording grows with the played audio"
        sink.close()
        sink.close()
        assert read_wav(path) == (format, sound + sound)
        return drained[-1]

    fastest(record, 0.5)
    assert 0.18 < min(written) < 0.5, "all but the buffer has been played"
    assert 0.29 < min(drained) < 0.7


def test_dropped_audio_is_not_recorded(tmp_path: Path) -> None:
    format = Format(24000)
    sink = open_sink(f"file:{tmp_path / 'reply.wav'}", format, 0.02, 0.5)
    sound = noise(0.6, format)
    started_at = time.monotonic()
    sink.write(sound)
    sink.drop()
    elapsed = time.monotonic() - started_at
    sink.write(b"\x01\x02" * 100)
    sink.drain()
    sink.close()
    _, recorded = read_wav(tmp_path / "reply.wav")
    kept = recorded[:-200]
    assert recorded[-200:] == b"\x01\x02" * 100
    assert sound.startswith(kept) and format.bytes_of(0.09) < len(kept) <= format.bytes_of(elapsed)


def test_sink_without_card_plays_in_real_time() -> None:
    format = Format(16000)
    sink = open_sink("none", format, 0.02, 0.05)
    assert isinstance(sink, PacedSink) and sink.format == format

    def swallow() -> float:
        started_at = time.monotonic()
        sink.write(bytes(format.bytes_of(0.3)))
        elapsed = time.monotonic() - started_at
        sink.drop()
        sink.drain()
        return elapsed

    assert 0.24 < fastest(swallow, 0.6) < 0.6
    sink.close()


def test_missing_folder_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nowhere"):
        open_sink(f"file:{tmp_path / 'nowhere' / 'reply.wav'}", SPEECH, 0.02, 0.1)


def test_full_disk_raises_one_error_and_close_raises_none(tmp_path: Path) -> None:
    """A second error, from close, would replace the first one."""
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
    format, pcm = read_wav(tmp_path / "heard.wav")
    assert format == SPEECH and pcm == bytes(len(pcm))


@pytest.mark.parametrize("call", ["write", "flush"])
def test_failed_close_closes_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    recordings: list[WavRecording] = []

    def fail(recording: WavRecording, *arguments: bytes) -> None:
        recordings.append(recording)
        raise AudioError("no space left")

    sink = open_sink(f"file:{tmp_path / 'heard.wav'}", SPEECH, 0.02, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(WavRecording, call, fail)
        with pytest.raises(AudioError, match="no space left"):
            sink.close()
    sink.drop()
    with pytest.raises(ValueError, match="closed file"):
        recordings[0]._file.fileno()


def test_failed_flush_raises_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(recording: WavRecording) -> None:
        raise AudioError("no space left")

    sink = open_sink(f"file:{tmp_path / 'heard.wav'}", SPEECH, 0.02, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(WavRecording, "flush", fail)
        with pytest.raises(AudioError, match="no space left"):
            sink.drop()
        sink.drop()
        sink.close()


@pytest.mark.parametrize("name", ["heard.wav", "heard", "heard.2026.wav"])
def test_older_recording_is_kept_under_another_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for number in range(4):
        sink = open_sink(f"file:{path}", SPEECH, 0.02, 0.0)
        sink.write(bytes([number, 0]) * 160)
        sink.close()
    names = [f"{path.stem}.{number}{path.suffix}" for number in (1, 2, 3)] + [name]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    assert [read_wav(tmp_path / each)[1][0] for each in names] == [0, 1, 2, 3]


def test_empty_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"
    path.touch()
    open_sink(f"file:{path}", SPEECH, 0.02, 0.0).close()
    assert [each.name for each in tmp_path.iterdir()] == ["heard.wav"] and read_wav(path) == (SPEECH, b"")


def test_recording_is_a_valid_file_at_any_moment(tmp_path: Path) -> None:
    """A killed daemon leaves all audio but the last second."""
    sink = open_sink(f"file:{tmp_path / 'heard.wav'}", SPEECH, 0.02, 0.0)
    written = 0
    for _ in range(4):
        sink.write(b"\x01\x02" * 8000)
        written += 16000
        _, pcm = read_wav(tmp_path / "heard.wav")
        assert written - 2 * 16000 < len(pcm) <= written and pcm == b"\x01\x02" * (len(pcm) // 2)
    sink.close()


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_recording_replaces_no_other_kind_of_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "heard.wav"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(AudioError, match="not a regular file"):
        open_sink(f"file:{path}", SPEECH, 0.02, 0.0)
    assert [each.name for each in tmp_path.iterdir()] == ["heard.wav"]


@pytest.mark.parametrize("suffix", [".mp3", ".opus", ".flac"])
def test_recording_with_the_suffix_of_another_format_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(AudioError, match="Use .wav"):
        open_sink(f"file:{tmp_path / 'heard'}{suffix}", SPEECH, 0.02, 0.0)


def test_recording_keeps_its_first_format(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
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


def test_recording_of_many_channels_rejects_another_format(tmp_path: Path) -> None:
    sink = open_sink(f"file:{tmp_path / 'speech.wav'}", Format(16000, 6), 0.02, 0.1)
    assert not sink.change_format(Format(16000)) and sink.format == Format(16000, 6)
    sink.close()

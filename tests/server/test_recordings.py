"""Limits of the recording store."""

from __future__ import annotations

import json
import tempfile
from typing import IO

import pytest

from agent.server.recordings import RecordingStore
from agent.services.protocols.codec import Transcript


def _add(store: RecordingStore, pcm: bytes, text: str = "") -> str:
    recording = store.start()
    recording.add_audio(pcm)
    if text:
        recording.add_final(Transcript(text, is_final=True))
    return store.add(recording)


def test_find_returns_a_recording_by_its_export_id_only() -> None:
    store = RecordingStore()
    one, two = _add(store, b"1111", "one"), _add(store, b"22", "two")
    recording = store.find(one)
    assert recording is not None
    assert (recording.wav() or b"")[44:] == b"1111"
    assert [final["text"] for final in json.loads(recording.transcript() or "")] == [" one"]
    assert one != two
    assert store.find("0" * 32) is None
    store.close()


def test_the_oldest_recording_is_removed_beyond_the_count_or_size_limit() -> None:
    store = RecordingStore(max_count=3, max_bytes=100)
    ids = [_add(store, bytes(10)) for _ in range(4)]
    assert [store.find(each) is not None for each in ids] == [False, True, True, True]
    large = _add(store, bytes(90))
    assert [store.find(each) is not None for each in [*ids, large]] == [False, False, False, True, True]
    store.close()


def test_a_recording_is_removed_at_its_maximum_age() -> None:
    store = RecordingStore(max_age_seconds=0.0)
    assert store.find(_add(store, b"11")) is None


def test_a_recording_beyond_the_size_limit_is_incomplete() -> None:
    store = RecordingStore(max_bytes=100)
    recording = store.start()
    for _ in range(20):
        recording.add_audio(bytes(10))
    assert (recording.size_bytes, recording.is_complete) == (100, False)
    store.discard(recording)
    assert store.find(_add(store, bytes(100))) is not None
    store.close()


def test_wav_returns_none_after_removal() -> None:
    store = RecordingStore()
    recording = store.find(_add(store, b"11"))
    assert recording is not None
    store.close()
    assert recording.wav() is None


@pytest.mark.parametrize("is_writable", [True, False], ids=["full disk", "no directory"])
def test_a_recording_that_cannot_be_written_has_no_export_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_writable: bool
) -> None:
    lose_recordings(monkeypatch, is_writable)
    store = RecordingStore(max_bytes=100)
    for _ in range(4):  # the lost audio does not count
        recording = store.start()
        for _ in range(5):
            recording.add_audio(bytes(10))
        assert store.find(store.add(recording)) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    monkeypatch.undo()
    assert store.find(_add(store, bytes(100))) is not None
    store.close()


def lose_recordings(monkeypatch: pytest.MonkeyPatch, is_writable: bool) -> None:
    """Make the directory of temporary files full, or unusable."""

    def full_disk(prefix: str, buffering: int) -> IO[bytes]:
        return open("/dev/full", "w+b", buffering)

    if is_writable:
        monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere")


def test_the_transcript_of_an_endless_session_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.server.recordings.MAX_TEXT_BYTES", 1000)
    store = RecordingStore()
    recording = store.start()
    for number in range(500):
        recording.add_final(Transcript(f"sentence {number}", is_final=True))
    finals = json.loads(recording.transcript() or "")
    assert 0 < len(finals) < 30 and finals[0]["text"] == " sentence 0"
    store.discard(recording)
    store.close()

"""Volume and mutes: set at once, kept over a restart, and never in the way of anything."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from agent.daemon.volume import CONFIGURATION, LAST_TIME, VolumeStore
from agent.pipeline.events import Hush, MicrophoneMute, Mute, Volume


@pytest.fixture(autouse=True)
def the_disk_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.daemon.volume.LAST_SECONDS", 30.0)


class Speaker:
    volume, muted = 100, False


class Microphone:
    muted = False

    def mute(self) -> None:
        self.muted = True

    def unmute(self) -> None:
        self.muted = False


def test_what_was_set_is_set_again_after_a_restart(tmp_path: Path) -> None:
    path, speaker, microphone = tmp_path / "state" / "levels.json", Speaker(), Microphone()
    levels = VolumeStore(path, 100)
    assert levels.kept() == []
    for event in (Volume(30, "control"), Mute(True, "control"), MicrophoneMute(True, "control"), Hush("control")):
        levels.note(event, speaker, microphone)
    assert (speaker.volume, speaker.muted, microphone.muted) == (30, True, True)
    levels.close()
    assert VolumeStore(path, 100).kept() == [
        Volume(30, LAST_TIME),
        Mute(True, LAST_TIME),
        MicrophoneMute(True, LAST_TIME),
    ]
    for event in (Mute(False, "control"), MicrophoneMute(False, "control")):
        levels.note(event, speaker, microphone)
    assert (speaker.muted, microphone.muted) == (False, False)
    levels.close()
    assert VolumeStore(path, 100).kept() == [Volume(30, LAST_TIME)]


def test_a_volume_that_was_changed_in_the_configuration_since_counts(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    levels = VolumeStore(path, 100)
    levels.note(Volume(30, "control"), Speaker(), None)
    levels.close()
    assert VolumeStore(path, 80).kept() == []
    assert VolumeStore(path, 100).kept() == [Volume(30, LAST_TIME)], "only looking changes nothing"


def test_a_volume_that_is_read_again_from_the_configuration_counts_after_a_restart_too(tmp_path: Path) -> None:
    path, speaker = tmp_path / "levels.json", Speaker()
    levels = VolumeStore(path, 100)
    levels.note(Volume(30, "control"), speaker, None)
    levels.note(Volume(60, CONFIGURATION), speaker, None)
    levels.close()
    assert speaker.volume == 60 and VolumeStore(path, 60).kept() == []


def test_the_file_is_always_whole_and_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    for percent in range(0, 100, 7):
        levels = VolumeStore(path, 100)
        levels.note(Volume(percent, "control"), Speaker(), None)
        levels.close()
        assert json.loads(path.read_text())["volume"] == percent
    assert os.listdir(tmp_path) == ["levels.json"]


def test_a_knob_that_is_turned_on_a_slow_disk_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the knob was written and synced by the thread that hears of a hush: on a slow card that was a
    second each. It is written where the knob comes to rest, and by a thread of its own."""
    threads: list[str] = []
    sync = os.fsync

    def slow(descriptor: int) -> None:
        threads.append(threading.current_thread().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr("agent.daemon.volume.PAUSE_SECONDS", 30.0)  # between two steps this thread may stand still
    path, speaker = tmp_path / "levels.json", Speaker()
    levels = VolumeStore(path, 100)
    for percent in range(100):
        levels.note(Volume(percent, "control"), speaker, None)
    assert speaker.volume == 99 and threads == []
    levels.close()
    assert json.loads(path.read_text())["volume"] == 99
    assert threads == ["levels"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"[" * 5000,
        b'{"volume": 200, "configured": 70}',
        b'{"volume": true, "configured": 70}',
    ],
)
def test_a_file_with_nonsense_is_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "levels.json"
    path.write_bytes(content)
    assert VolumeStore(path, 70).kept() == []


def test_a_state_directory_that_cannot_be_written_costs_only_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    speaker = Speaker()
    levels = VolumeStore(tmp_path / "state" / "levels.json", 100)
    levels.note(Volume(30, "control"), speaker, None)
    levels.close()
    assert speaker.volume == 30
    assert "not kept over a restart" in caplog.text


def test_what_the_mode_does_not_have_is_not_set(tmp_path: Path) -> None:
    levels = VolumeStore(tmp_path / "levels.json", 100)
    levels.note(Volume(30, "control"), None, None)
    levels.note(MicrophoneMute(True, "control"), None, None)
    assert levels.kept() == []

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from agent.daemon import volume
from agent.daemon.volume import CONFIGURATION, RESTORED, VolumeStore
from agent.pipeline.events import Choose, Hush, MicrophoneMute, Mute, Volume
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 30.0


class Speaker:
    volume, muted = 100, False


class Microphone:
    muted = False

    def mute(self) -> None:
        self.muted = True

    def unmute(self) -> None:
        self.muted = False


def test_stored_values_are_restored(tmp_path: Path) -> None:
    path, speaker, microphone = tmp_path / "state" / "levels.json", Speaker(), Microphone()
    store = VolumeStore(path, 100)
    assert store.restored_events() == []
    for event in (Volume(30, "control"), Mute(True, "control"), MicrophoneMute(True, "control"), Hush("control")):
        store.apply(event, speaker, microphone)
    assert (speaker.volume, speaker.muted, microphone.muted) == (30, True, True)
    store.close(Deadline(TIMEOUT_SECONDS))
    assert VolumeStore(path, 100).restored_events() == [
        Volume(30, RESTORED),
        Mute(True, RESTORED),
        MicrophoneMute(True, RESTORED),
    ]
    for event in (Mute(False, "control"), MicrophoneMute(False, "control")):
        store.apply(event, speaker, microphone)
    assert (speaker.muted, microphone.muted) == (False, False)
    store.close(Deadline(TIMEOUT_SECONDS))
    assert VolumeStore(path, 100).restored_events() == [Volume(30, RESTORED)]


def test_choices_are_restored(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    store = VolumeStore(path, 100)
    assert (store.choice("voice"), store.choice("wake_word")) == ("", "")
    for setting, value in (("voice", "de"), ("wake_word", "alexa"), ("voice", "fr")):
        store.apply(Choose(setting, value, "mqtt"), None, None)
    store.close(Deadline(TIMEOUT_SECONDS))
    restored = VolumeStore(path, 80)
    assert (restored.choice("voice"), restored.choice("wake_word")) == ("fr", "alexa")


def test_changed_configuration_overrides_the_stored_volume(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    store = VolumeStore(path, 100)
    store.apply(Volume(30, "control"), Speaker(), None)
    store.close(Deadline(TIMEOUT_SECONDS))
    assert VolumeStore(path, 80).restored_events() == []
    assert VolumeStore(path, 100).restored_events() == [Volume(30, RESTORED)], "reading changes nothing"


def test_reloaded_volume_is_the_configured_one_after_a_restart(tmp_path: Path) -> None:
    path, speaker = tmp_path / "levels.json", Speaker()
    store = VolumeStore(path, 100)
    store.apply(Volume(30, "control"), speaker, None)
    store.apply(Volume(60, CONFIGURATION), speaker, None)
    store.close(Deadline(TIMEOUT_SECONDS))
    assert speaker.volume == 60 and VolumeStore(path, 60).restored_events() == []


def test_file_is_always_complete_and_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    for percent in range(0, 100, 7):
        store = VolumeStore(path, 100)
        store.apply(Volume(percent, "control"), Speaker(), None)
        store.close(Deadline(TIMEOUT_SECONDS))
        assert json.loads(path.read_text())["volume"] == percent
    assert os.listdir(tmp_path) == ["levels.json"]


def test_rapid_changes_are_written_once_by_a_separate_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    sync = os.fsync

    def slow(descriptor: int) -> None:
        threads.append(threading.current_thread().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    path, speaker = tmp_path / "levels.json", Speaker()
    store = VolumeStore(path, 100, write_delay_seconds=30.0)
    for percent in range(100):
        store.apply(Volume(percent, "control"), speaker, None)
    assert speaker.volume == 99 and threads == []
    store.close(Deadline(TIMEOUT_SECONDS))
    assert json.loads(path.read_text())["volume"] == 99
    assert threads == ["volume"]


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
def test_invalid_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "levels.json"
    path.write_bytes(content)
    assert VolumeStore(path, 70).restored_events() == []


def test_unwritable_directory_is_logged_and_the_volume_applies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    speaker = Speaker()
    store = VolumeStore(tmp_path / "state" / "levels.json", 100)
    store.apply(Volume(30, "control"), speaker, None)
    store.close(Deadline(TIMEOUT_SECONDS))
    assert speaker.volume == 30
    assert "volume" in caplog.text and str(tmp_path / "state") in caplog.text


def test_devices_that_the_mode_lacks_are_ignored(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path / "levels.json", 100)
    store.apply(Volume(30, "control"), None, None)
    store.apply(MicrophoneMute(True, "control"), None, None)
    assert store.restored_events() == []


def test_storage_problem_is_none_where_values_can_be_stored(tmp_path: Path) -> None:
    assert VolumeStore(tmp_path / "state" / "levels.json", 100).storage_problem() is None
    assert VolumeStore(None, 100).storage_problem() is None
    assert os.listdir(tmp_path / "state") == [], "the probe leaves no file"


def test_storage_problem_names_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file", Path("/proc/self")]  # root may write everywhere but in such places
    if os.geteuid() != 0:
        places.append(tmp_path / "locked")
        places[-1].mkdir(mode=0o500)
    for place in places:
        problem = VolumeStore(place / "levels.json", 100).storage_problem()
        assert problem is not None and f"{place}/levels.json" in problem and f"uid {os.geteuid()}" in problem


@pytest.mark.parametrize(
    ("code", "cure"), [(errno.ENOSPC, "Free disk space"), (errno.EDQUOT, "Free disk space"), (errno.EROFS, "writable")]
)
def test_cure_of_a_storage_problem_depends_on_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, cure: str
) -> None:
    def fail(path: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(volume, "AtomicFile", fail)
    problem = VolumeStore(tmp_path / "levels.json", 100).storage_problem()
    assert problem is not None and os.strerror(code) in problem and cure in problem


def test_a_disk_that_does_not_answer_is_a_storage_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def wait(path: Path) -> None:
        answered.wait(TIMEOUT_SECONDS)
        raise OSError(errno.EIO, "too late")

    monkeypatch.setattr(volume, "AtomicFile", wait)
    monkeypatch.setattr(volume, "PROBE_SECONDS", 0.05)
    problem = VolumeStore(tmp_path / "levels.json", 100).storage_problem()
    answered.set()
    assert problem is not None and "does not answer" in problem

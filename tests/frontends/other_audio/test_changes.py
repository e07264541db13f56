from __future__ import annotations

from pathlib import Path

import pytest

from agent.frontends.other_audio.changes import MAX_CHANGES, Change, ChangeFile

STREAM = Change("stream", "3", "mpd 17", (65536.0, 60000.0), (13107.0, 12000.0))
PAUSED = Change("playback", "org.mpris.MediaPlayer2.vlc", ":1.4")


def test_changes_are_read_again(tmp_path: Path) -> None:
    ChangeFile(tmp_path / "state" / "file").write([STREAM, PAUSED])
    assert ChangeFile(tmp_path / "state" / "file").read() == [STREAM, PAUSED]


def test_without_changes_there_is_no_file(tmp_path: Path) -> None:
    file = ChangeFile(tmp_path / "file")
    assert file.read() == []
    file.write([])
    file.write([STREAM])
    file.write([])
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "7", '{"a": 1}', "[[]]", '[["stream", "3", 4, [], []]]', '[["stream", "3", "x", 1, []]]', "[" * 9999],
)
def test_a_damaged_file_restores_nothing(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text(text)
    assert ChangeFile(tmp_path / "file").read() == []
    assert "cannot read what to restore" in caplog.text


def test_the_number_of_changes_is_bounded(tmp_path: Path) -> None:
    file = ChangeFile(tmp_path / "file")
    file.write([PAUSED._replace(owner=str(index)) for index in range(2 * MAX_CHANGES)])
    assert len(file.read()) == MAX_CHANGES


def test_a_target_is_the_same_with_another_volume() -> None:
    assert STREAM.is_same_target(STREAM._replace(before=(1.0,)))
    assert not STREAM.is_same_target(STREAM._replace(name="4"))

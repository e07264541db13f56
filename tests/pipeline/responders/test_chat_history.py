from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from agent.pipeline.responders.chat_history import ChatHistory, delete_history


class Now:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def texts(history: ChatHistory) -> list[object]:
    return [message["content"] for message in history.messages()]


def test_heard_turns_survive_a_restart_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "chat-history.json"
    history = ChatHistory(3, 3600.0, path)
    history.append(1, "one", "one!")
    history.correct(1, None)
    history.append(2, "two", "two, and more.")
    history.correct(2, "two")
    history.append(3, "three", "not heard yet")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = ChatHistory(3, 3600.0, path)
    again.load()
    assert texts(again) == ["one", "one!", "two", "two"]
    again.append(1, "four", "four!")
    again.correct(1, None)
    assert texts(again) == ["one", "one!", "two", "two", "four", "four!"]
    again.append(2, "five", "five!")
    assert texts(again) == ["two", "two", "four", "four!", "five", "five!"]


def test_reply_of_which_nothing_was_heard_is_removed_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "chat-history.json"
    history = ChatHistory(3, 3600.0, path)
    history.append(1, "one", "one!")
    history.correct(1, None)
    history.correct(1, "")
    assert json.loads(path.read_text()) == {"turns": []}


def test_old_turns_are_forgotten_in_memory_and_on_the_disk(tmp_path: Path) -> None:
    path, now = tmp_path / "chat-history.json", Now()
    history = ChatHistory(5, 100.0, path, now)
    history.append(1, "one", "one!")
    history.correct(1, None)
    now.seconds += 60
    history.append(2, "two", "two!")
    history.correct(2, None)
    now.seconds += 60
    assert texts(history) == ["two", "two!"]
    assert [each["question"] for each in json.loads(path.read_text())["turns"]] == ["two"]
    now.seconds += 60
    again = ChatHistory(5, 100.0, path, now)
    again.load()
    assert texts(again) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"turns": 5}', b'{"turns": [5]}', b'{"turns": [{"at": "x"}]}', b"\xff", b"{"]
)
def test_damaged_file_is_no_history(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chat-history.json"
    path.write_bytes(content)
    history = ChatHistory(5, 100.0, path)
    history.load()
    assert texts(history) == []


def test_disk_that_fails_costs_durability_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    history = ChatHistory(5, 100.0, tmp_path / "file" / "chat-history.json")
    history.load()
    for turn in (1, 2):
        history.append(turn, "one", "one!")
        history.correct(turn, None)
    assert len(texts(history)) == 4
    assert caplog.text.count("lost at the next restart") == 1


def test_no_turns_are_sent_if_none_are_wanted() -> None:
    history = ChatHistory(0, 100.0)
    history.append(1, "one", "one!")
    assert texts(history) == []


def test_file_is_deleted_when_it_is_not_kept_any_more(tmp_path: Path) -> None:
    path = tmp_path / "chat-history.json"
    path.touch()
    delete_history(path)
    delete_history(path)
    delete_history(None)
    assert not path.exists()

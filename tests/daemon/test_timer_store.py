from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest

from agent.daemon.timer_store import TimerStore
from agent.pipeline.events import Event, TimersRestored
from agent.pipeline.timers import Timer, TimerState
from agent.system.threads import Deadline

SECONDS = 20.0
TIMERS = (Timer(1, "tea", "en", 60.0), Timer(3, "Öl", "de", alarm="2026-11-30 07:00", state=TimerState.PAUSED))


def saved(store: TimerStore, timers: tuple[Timer, ...]) -> bool:
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    store.save(timers, answers.put)
    return answers.get(timeout=SECONDS)


def restored(path: Path) -> tuple[Timer, ...]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = TimerStore(path)
    store.start(events.put, Deadline(0.0))
    try:
        event = events.get(timeout=SECONDS)
        assert isinstance(event, TimersRestored)
        return event.timers
    finally:
        store.close(Deadline(SECONDS))


def test_timers_are_read_after_a_restart(tmp_path: Path) -> None:
    store = TimerStore(tmp_path / "timers.db")
    assert saved(store, TIMERS[:1])
    assert saved(store, TIMERS)
    store.close(Deadline(SECONDS))
    assert restored(tmp_path / "timers.db") == TIMERS


def test_answered_save_is_on_the_disk_while_the_store_is_open(tmp_path: Path) -> None:
    """What a kill leaves behind: the file and its log."""
    store = TimerStore(tmp_path / "timers.db")
    assert saved(store, TIMERS)
    (tmp_path / "killed").mkdir()
    for name in ("timers.db", "timers.db-wal"):
        (tmp_path / "killed" / name).write_bytes((tmp_path / name).read_bytes())
    store.close(Deadline(SECONDS))
    assert restored(tmp_path / "killed" / "timers.db") == TIMERS


def test_first_save_does_not_replace_timers_that_were_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "timers.db"
    store = TimerStore(path)
    assert saved(store, TIMERS)
    store.close(Deadline(SECONDS))
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    again = TimerStore(path)
    again.start(events.put, Deadline(0.0))
    saved(again, TIMERS[:1])
    event = events.get(timeout=SECONDS)
    assert isinstance(event, TimersRestored) and event.timers == TIMERS
    again.close(Deadline(SECONDS))


def test_file_without_timers_is_only_read_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "timers.db"
    store = TimerStore(path)
    assert saved(store, TIMERS) and saved(store, ())
    store.close(Deadline(SECONDS))
    os.utime(path, ns=(0, 0))
    again = TimerStore(path)
    again.start(lambda event: None, Deadline(SECONDS))
    again.close(Deadline(SECONDS))
    assert path.stat().st_mtime_ns == 0


def test_disk_that_fails_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = TimerStore(tmp_path / "file" / "timers.db")
    assert not saved(store, TIMERS)
    assert not saved(store, TIMERS)
    store.close(Deadline(SECONDS))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "timers.db").write_bytes(b"no database")
    store = TimerStore(tmp_path / "timers.db")
    store.start(lambda event: None, Deadline(0.0))
    assert saved(store, TIMERS)
    store.close(Deadline(SECONDS))
    assert len([*tmp_path.glob("timers.db.bad-*")]) == 1
    assert restored(tmp_path / "timers.db") == TIMERS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2026-11-30", b"2026-31-30"),
        (b'"seconds": 60.0', b'"seconds": "60"'),
        (b'"number": 1', b'"nu_ber": 1'),
        (b"timers (number", b"\xf4imers (number"),
    ],
)
def test_file_with_a_damaged_value_is_set_aside(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "timers.db"
    store = TimerStore(path)
    assert saved(store, TIMERS)
    store.close(Deadline(SECONDS))
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    again = TimerStore(path)
    again.start(lambda event: None, Deadline(0.0))
    assert saved(again, TIMERS)
    again.close(Deadline(SECONDS))
    assert len([*tmp_path.glob("timers.db.bad-*")]) == 1


def test_store_without_a_path_keeps_nothing() -> None:
    store = TimerStore(None)
    store.start(lambda event: None, Deadline(0.0))
    assert not saved(store, TIMERS)
    store.close(Deadline(SECONDS))

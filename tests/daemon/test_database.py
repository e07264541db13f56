from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.daemon.database import COLUMNS, Database, DatabaseUnusable


def row(number: int, name: str) -> tuple[object, ...]:
    return (number, name, *[None] * (len(COLUMNS) - 1))


def test_rows_are_read_in_order_and_replaced(tmp_path: Path) -> None:
    database = Database(tmp_path / "queue.db")
    database.write([row(2, "b"), row(1, "a"), row(3, "c")], [])
    database.write([row(4, "b")], [2, 3])
    assert [each[:2] for each in database.read()] == [(1, "a"), (4, "b")]
    database.write([row(7, "d")], [], is_all=True)
    assert [each[:2] for each in database.read()] == [(7, "d")]
    database.close()
    again = Database(tmp_path / "queue.db")
    assert [each[1] for each in again.read()] == ["d"]
    again.close()


def test_every_commit_is_written_through_to_the_disk(tmp_path: Path) -> None:
    """Another connection reads what the log contains after a kill."""
    database = Database(tmp_path / "queue.db")
    database.write([row(1, "a")], [])
    for name in ("queue.db", "queue.db-wal"):
        (tmp_path / "killed").mkdir(exist_ok=True)
        (tmp_path / "killed" / name).write_bytes((tmp_path / name).read_bytes())
    database.close()
    with sqlite3.connect(tmp_path / "killed" / "queue.db") as copy:
        assert copy.execute("SELECT id FROM utterances").fetchall() == [("a",)]
    copy.close()


def test_file_that_is_open_elsewhere_is_unusable(tmp_path: Path) -> None:
    database = Database(tmp_path / "queue.db")
    with pytest.raises(DatabaseUnusable, match="locked"):
        Database(tmp_path / "queue.db")
    database.close()


def test_damaged_file_keeps_its_name_in_the_bad_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"no database")
    database = Database(path)
    assert database.read() == []
    database.close()
    (bad,) = tmp_path.glob("queue.db.bad-*")
    assert bad.read_bytes() == b"no database"
    assert [record.levelname for record in caplog.records] == ["ERROR"]

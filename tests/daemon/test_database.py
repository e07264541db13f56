from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.daemon.database import COLUMNS, RESERVE_BYTES, Database, DatabaseUnusable


def row(number: int, name: str) -> tuple[object, ...]:
    return (number, name, *[None] * (len(COLUMNS) - 1))


def test_rows_are_read_in_order_and_replaced(tmp_path: Path) -> None:
    database = Database(tmp_path / "queue.db")
    database.write([row(2, "b"), row(1, "a"), row(3, "c")], [])
    database.write([row(4, "b")], [2, 3])
    assert [each[:2] for each in database.read()] == [(1, "a"), (4, "b")]
    database.write([row(7, "d")], [], replaces_all=True)
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


def test_first_write_allocates_the_reserve(tmp_path: Path) -> None:
    reserve = tmp_path / "queue.db.reserve"
    database = Database(tmp_path / "queue.db")
    assert not reserve.exists(), "the start does not wait for it"
    database.write([row(1, "a")], [])
    found = reserve.stat()
    assert found.st_size == RESERVE_BYTES <= found.st_blocks * 512
    assert stat.S_IMODE(found.st_mode) == 0o600
    database.replace("a test")
    database.close()
    assert reserve.exists()


def test_reserve_that_cannot_be_created_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "queue.db.reserve").mkdir()
    database = Database(tmp_path / "queue.db")
    database.write([row(1, "a")], [])
    database.write([row(2, "b")], [])
    assert [each[1] for each in database.read()] == ["a", "b"]
    database.close()
    assert not caplog.records


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


def flipped(data: bytes, step: int, masks: tuple[int, ...] = (0x01, 0x80)) -> Iterator[bytes]:
    """Damage the header, and every ``step``-th other byte that is not zero, one at a time."""
    used = [index for index, byte in enumerate(data) if byte and index >= 100]
    for index in [*range(16, 100), *used[::step]]:
        for mask in masks:
            yield data[:index] + bytes([data[index] ^ mask]) + data[index + 1 :]


def test_file_with_a_damaged_byte_is_read_or_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    database = Database(path)
    database.write([row(1, "a"), row(2, "b")], [])
    database.close()
    for number, data in enumerate(flipped(path.read_bytes(), 7)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "queue.db").write_bytes(data)
        for _ in range(2):  # a damage that the first write finds
            database = Database(folder / "queue.db")
            try:
                database.read()
                database.write([row(3, "c")], [], replaces_all=True)
            except DatabaseUnusable:
                continue
            break
        assert [each[:2] for each in database.read()] == [(3, "c")]
        database.close()


@pytest.mark.parametrize("name", [b"utterances", b"accepted_at"])
def test_file_with_a_damaged_name_is_set_aside(tmp_path: Path, name: bytes) -> None:
    """Python cannot decode the message of SQLite about it."""
    assert_set_aside(tmp_path, lambda data: data.replace(name, bytes([name[0] ^ 0x80]) + name[1:]))


def test_file_whose_header_forbids_writing_is_set_aside(tmp_path: Path) -> None:
    assert_set_aside(tmp_path, lambda data: data[:18] + b"\x03" + data[19:])  # the version that a writer must know


def assert_set_aside(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Damage an empty file; check that it is renamed and that the next one can be written."""
    path = tmp_path / "queue.db"
    Database(path).close()
    path.write_bytes(damage(path.read_bytes()))
    database = Database(path)
    database.write([row(1, "a")], [])
    database.close()
    assert len(list(tmp_path.glob("queue.db.bad-*"))) == 1


def test_damaged_text_does_not_cost_the_other_rows(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    database = Database(path)
    database.write([(*row(1, "a")[:12], "Dinner.", *row(1, "a")[13:]), row(2, "b")], [])
    database.close()
    path.write_bytes(path.read_bytes().replace(b"Dinner.", b"Dinn\xe5r."))
    database = Database(path)
    assert [each[12] for each in database.read()] == ["Dinn\N{REPLACEMENT CHARACTER}r.", None]
    database.close()
    assert list(tmp_path.glob("queue.db.bad-*")) == []

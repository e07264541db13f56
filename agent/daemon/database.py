"""Reads and writes a SQLite file with one table of numbered rows, for the utterances or for the timers."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

log = logging.getLogger(__name__)

COLUMNS = (
    "id",
    "state",
    "reason",
    "source",
    "urgency",
    "priority",
    "accepted_at",
    "started_at",
    "ended_at",
    "seconds",
    "services",
    "text",
    "digest",
    "delivery",
    "boot_id",
    "accepted_boot_seconds",
)


class Table(NamedTuple):
    """The table of a file. Immutable.

    ``subject`` begins the log lines. The values of the column ``unique`` are unique. ``version`` increases with every
    change that an older program cannot read.
    """

    name: str
    columns: tuple[str, ...]
    subject: str
    unique: str = ""
    version: int = 1

    @property
    def schema(self) -> str:
        definitions = ", ".join(
            f"{name} TEXT UNIQUE NOT NULL" if name == self.unique else name for name in self.columns
        )
        table = f"CREATE TABLE {self.name} (number INTEGER PRIMARY KEY, {definitions})"
        return f"{table}; PRAGMA user_version = {self.version};"

    @property
    def insert(self) -> str:
        return f"INSERT OR REPLACE INTO {self.name} VALUES ({', '.join('?' * (1 + len(self.columns)))})"


UTTERANCES = Table("utterances", COLUMNS, "queue", unique="id")
TIMERS = Table("timers", ("timer",), "timers")

RESERVE_BYTES = 256 * 1024
_BUSY_SECONDS = 0.2
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""The exceptions of SQLite calls. Python cannot decode an error message of SQLite that quotes a damaged name."""
_TEMPORARY = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    )
)
"""Error codes of the disk, the lock and the memory. Every other error counts as a damaged file."""

Row = Sequence[Any]
"""The number of a row, which determines the order of the rows, and the values of its columns."""


class DatabaseUnusable(Exception):
    """The file cannot be read or written now.

    Args:
        reason: The error.
        is_set_aside: Whether the file was damaged and has been renamed.
    """

    def __init__(self, reason: str, *, is_set_aside: bool = False) -> None:
        super().__init__(reason)
        self.is_set_aside = is_set_aside


class Database:
    """One open file. Not thread-safe; owned by the thread of its store.

    A commit survives SIGKILL and a loss of power: the write-ahead log is synced to the disk (``synchronous=FULL``). The
    lock of the file is held until ``close``, so that a second daemon cannot speak the same announcements. A file that
    is damaged, or has another version, is renamed to ``NAME.bad-TIME`` and replaced by an empty file.

    When the disk is full, a write uses the space of ``NAME.reserve``, a file of ``RESERVE_BYTES``. The next write with
    enough free space creates the reserve again.

    Raises:
        DatabaseUnusable: From the constructor and every method except ``close``. The object is then closed.
    """

    def __init__(self, path: Path, table: Table = UTTERANCES) -> None:
        self._path, self._table = path, table
        self._reserve, self._has_reserve = path.with_name(f"{path.name}.reserve"), False
        try:
            self._connection = self._open()
        except OSError as error:
            raise DatabaseUnusable(str(error)) from error
        except _ERRORS as error:
            if _is_temporary(error):
                raise DatabaseUnusable(str(error)) from error
            self._set_aside(str(error))
            self._connection = self._open_empty()

    def read(self) -> list[tuple[Any, ...]]:
        """Return all rows in order; none if the file is damaged. Invalid UTF-8 is decoded to replacement characters."""
        try:
            return self._connection.execute(f"SELECT * FROM {self._table.name} ORDER BY number").fetchall()
        except _ERRORS as error:
            if _is_temporary(error):
                raise self._failed(error) from error
            self.replace(str(error))
            return []

    def write(self, rows: Sequence[Row], removed: Sequence[int], *, replaces_all: bool = False) -> None:
        """Replace and remove rows in one transaction.

        Args:
            rows: The new rows.
            removed: The numbers of the rows to remove.
            replaces_all: Whether to remove all other rows as well.
        """
        try:
            try:
                self._transact(rows, removed, replaces_all)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_FULL:
                    raise
                self._free_space()
                self._transact(rows, removed, replaces_all)
        except _ERRORS as error:
            raise self._failed(error) from error
        if not self._has_reserve:
            self._has_reserve = self._make_reserve()
            if not self._has_reserve:  # a growing log would take the last space, which the file needs
                self._checkpoint("PASSIVE")

    def replace(self, reason: str) -> None:
        """Rename the file, because its contents cannot be used, and open an empty file."""
        self.close()
        self._set_aside(reason)
        self._connection = self._open_empty()

    def close(self) -> None:
        """Close the file. Idempotent."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            log.warning("%s: not closed, path=%s, %s", self._table.subject, self._path, error)

    def _transact(self, rows: Sequence[Row], removed: Sequence[int], replaces_all: bool) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if replaces_all:
            self._connection.execute(f"DELETE FROM {self._table.name}")
        one = f"DELETE FROM {self._table.name} WHERE number = ?"
        self._connection.executemany(one, ((number,) for number in removed))
        self._connection.executemany(self._table.insert, rows)
        self._connection.execute("COMMIT")

    def _free_space(self) -> None:
        """Roll back a transaction for which the disk was full, and free the space of the log and of the reserve."""
        if self._connection.in_transaction:  # SQLite has not rolled it back itself
            self._connection.execute("ROLLBACK")
        is_truncated = self._checkpoint("TRUNCATE")
        self._has_reserve = False
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        if not is_truncated:
            self._checkpoint("TRUNCATE")

    def _checkpoint(self, mode: str) -> bool:
        """Copy the log to the file; return ``False`` if the file has no space to grow.

        Args:
            mode: ``TRUNCATE`` frees the space of the log; ``PASSIVE`` keeps it for the next transactions.
        """
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except _ERRORS:  # if the disk is not full, the next transaction reports the error
            return False
        return True

    def _make_reserve(self) -> bool:
        """Allocate the reserve, unless it exists; return whether there is space for it."""
        try:
            descriptor = os.open(self._reserve, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                self._reserve.unlink(missing_ok=True)  # some file systems keep the part that they could allocate
            return False
        return True

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self._path.exists()
        # SQLite would create the file, and its log beside it, readable for other users.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        connection.text_factory = _decode  # a damaged text must not make the other rows unreadable
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -512")  # kB
            connection.execute("PRAGMA secure_delete = ON")  # a removed text leaves no trace in the file
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and tables == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {self._table.schema} COMMIT;")
            elif version != self._table.version:
                expected = self._table.version
                raise sqlite3.DatabaseError(f"its version is {version}, this program reads version {expected}")
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            connection.execute(f"SELECT number, {', '.join(self._table.columns)} FROM {self._table.name} LIMIT 1")
            self._check_header(connection)
            if is_new:
                self._sync_directory()
            return connection
        except BaseException:
            connection.close()
            raise

    def _check_header(self, connection: sqlite3.Connection) -> None:
        """Raise ``sqlite3.DatabaseError`` if the file is writable, but its (damaged) header forbids writing."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {self._table.version}")
            connection.execute("ROLLBACK")  # nothing is written
        except sqlite3.OperationalError as error:
            if _code(error) == sqlite3.SQLITE_READONLY:
                raise sqlite3.DatabaseError("its header forbids writing") from error
            raise

    def _open_empty(self) -> sqlite3.Connection:
        try:
            return self._open()
        except (*_ERRORS, OSError) as error:
            raise DatabaseUnusable(str(error)) from error

    def _sync_directory(self) -> None:
        """Sync the directory, so that the name of a new file survives a loss of power."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _set_aside(self, reason: str) -> None:
        bad = self._path.with_name(f"{self._path.name}.bad-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
        subject = self._table.subject
        log.error("%s: cannot read, %s, renamed, path=%s, new_path=%s", subject, escape(reason), self._path, bad)
        try:
            self._path.rename(bad)
            for suffix in ("-wal", "-shm"):
                log_file = self._path.with_name(self._path.name + suffix)
                if log_file.exists():
                    log_file.rename(bad.with_name(bad.name + suffix))
        except OSError as error:
            raise DatabaseUnusable(str(error)) from error

    def _failed(self, error: sqlite3.Error | UnicodeDecodeError) -> DatabaseUnusable:
        self.close()
        is_damaged = not _is_temporary(error)
        if is_damaged:
            self._set_aside(str(error))
        return DatabaseUnusable(str(error), is_set_aside=is_damaged)


def _code(error: Exception) -> int | None:
    """Return the primary error code of SQLite; ``None`` for an error that SQLite did not report."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_temporary(error: Exception) -> bool:
    """Return whether the error has another cause than the file, so that the file can be used later."""
    return _code(error) in _TEMPORARY


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")

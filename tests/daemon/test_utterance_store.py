"""The store with real files: what it keeps, and what a disk that does not work costs."""

from __future__ import annotations

import os
import queue
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.daemon.database import RESERVE_BYTES, Database
from agent.daemon.utterance_store import MAX_KEPT_CHARACTERS, MAX_RECORDS, StoreTiming, UtteranceStore
from agent.pipeline.actions import Record
from agent.pipeline.events import Event, Restored, RestoredUtterance, Stored
from agent.pipeline.history import Claim, HistoryRecord
from agent.pipeline.utterance import Delivery, Urgency, Utterance
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 30.0


class Process:
    """One life of the daemon, as far as its store is concerned."""

    def __init__(self, path: Path, *, transcripts: bool = False, retry_seconds: float = 0.05) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        timing = StoreTiming(gate_seconds=TIMEOUT_SECONDS, retry_seconds=retry_seconds)
        self.store = UtteranceStore(path, transcripts=lambda: transcripts, timing=timing)
        self.is_restoring = self.store.start(self.events.put)

    def restored(self) -> tuple[RestoredUtterance, ...]:
        event = self.events.get(timeout=TIMEOUT_SECONDS)
        assert isinstance(event, Restored)
        return event.utterances

    def accept(self, *utterances: Utterance) -> list[bool]:
        """Accept them one by one; return whether each is durable."""
        durable = []
        for utterance in utterances:
            self.store.accept(utterance)
            while not isinstance(event := self.events.get(timeout=TIMEOUT_SECONDS), Stored):
                pass
            assert event.utterance == utterance.id
            durable.append(event.durable)
        return durable

    def begin(self, utterance: Utterance) -> None:
        if (wait := self.store.record_start(utterance.id)) is not None:
            wait()

    def end(self, utterance: Utterance, state: str = "played", seconds: float = 1.0) -> None:
        self.store.end(Record(utterance, state, "why", seconds), ("fish",), utterance.text or "", 100.0, 101.0)

    def history(self, limit: int = MAX_RECORDS) -> list[HistoryRecord]:
        answers: queue.SimpleQueue[list[HistoryRecord]] = queue.SimpleQueue()
        self.store.read_history(limit, answers.put)
        return answers.get(timeout=TIMEOUT_SECONDS)

    def claim(self, utterance: Utterance) -> Claim:
        answers: queue.SimpleQueue[Claim] = queue.SimpleQueue()
        self.store.claim(utterance, answers.put)
        return answers.get(timeout=TIMEOUT_SECONDS)

    def states(self) -> dict[str, str]:
        return {record.id: record.state for record in self.history()}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Builds the next process; the one before has ended."""
    built: list[Process] = []

    def build(**options: object) -> Process:
        if built:
            built[-1].store.close(Deadline(TIMEOUT_SECONDS))
        built.append(Process(tmp_path / "state" / "queue.db", **options))  # type: ignore[arg-type]
        return built[-1]

    yield build
    built[-1].store.close(Deadline(TIMEOUT_SECONDS))


def message(name: str, text: str | None = "Dinner.", **delivery: object) -> Utterance:
    return Utterance(name, text, source="control", delivery=Delivery(**delivery))  # type: ignore[arg-type]


def test_nothing_runs_before_the_first_utterance(process: Callable[..., Process], tmp_path: Path) -> None:
    before = threading.active_count()
    it = process()
    assert not it.is_restoring and threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_queued_announcements_are_restored_in_order_with_all_options(process: Callable[..., Process]) -> None:
    first, second = (
        message("a", volume=30, chime="gong", service="local", voice="Anna", keep=False),
        Utterance("b", "Fire.", priority=7, source="say", urgency=Urgency.IMPORTANT),
    )
    assert process().accept(first, second) == [True, True]
    again = process()
    assert again.is_restoring
    assert again.restored() == (RestoredUtterance(first), RestoredUtterance(second))
    assert again.states() == {"a": "queued", "b": "queued"}


def test_started_one_is_recorded_as_interrupted_after_a_restart(process: Callable[..., Process]) -> None:
    once, repeated = message("a"), message("b", repeat_after_restart=True)
    it = process()
    it.accept(once, repeated)
    it.begin(once)
    it.begin(repeated)
    again = process()
    assert again.restored() == (RestoredUtterance(repeated),)
    assert again.states() == {"a": "interrupted", "b": "queued"}
    assert process().states()["a"] == "interrupted"


def test_ended_ones_are_not_spoken_again(process: Callable[..., Process]) -> None:
    it = process()
    it.accept(message("a"))
    it.begin(message("a"))
    it.end(message("a"))
    again = process()
    assert again.restored() == ()
    (record,) = again.history()
    assert record == HistoryRecord(
        "a", "played", "why", "control", "message", 0, record.accepted_at, 101.0, record.ended_at, 1.0, ("fish",), None
    )
    assert record.ended_at is not None and record.accepted_at <= record.ended_at <= time.time()


def test_text_that_arrives_in_pieces_is_kept_when_it_is_complete(process: Callable[..., Process]) -> None:
    it = process()
    it.accept(message("a", None), message("b", None))
    it.store.complete("a", "One. Two.")
    again = process()
    assert again.restored() == (RestoredUtterance(message("a", "One. Two.")),)
    assert again.states() == {"a": "queued", "b": "failed"}


def test_time_to_live_passes_while_the_daemon_is_down(process: Callable[..., Process]) -> None:
    process().accept(message("short", ttl_seconds=0.001), message("long", ttl_seconds=3600.0))
    again = process()
    (restored,) = again.restored()
    assert restored.utterance.id == "long"
    assert restored.remaining_seconds is not None and 3500.0 < restored.remaining_seconds < 3600.0
    assert again.states() == {"short": "expired", "long": "queued"}


@pytest.mark.parametrize(
    ("boot_id", "hours", "is_left"),
    [("this", 5, True), ("this", -5, True), ("another", -5, True), ("another", 5, False)],
    ids=["clock set forward", "clock set back", "restart with an old clock", "restart after the time to live"],
)
def test_time_to_live_survives_a_clock_that_jumps(
    process: Callable[..., Process], tmp_path: Path, boot_id: str, hours: int, is_left: bool
) -> None:
    process().accept(message("a", ttl_seconds=3600.0))
    process().store.close(Deadline(TIMEOUT_SECONDS))
    with sqlite3.connect(tmp_path / "state" / "queue.db") as database:
        database.execute("UPDATE utterances SET accepted_at = accepted_at - ?", [hours * 3600])
        if boot_id == "another":
            database.execute("UPDATE utterances SET boot_id = 'another'")
    database.close()
    assert (len(process().restored()) == 1) == is_left


def test_released_id_is_free_again(process: Callable[..., Process]) -> None:
    it = process()
    assert it.claim(message("a", None)) == Claim()
    it.store.release("a")
    assert it.claim(message("a", None)) == Claim()
    it.accept(message("a", "Dinner."))
    it.store.release("a")  # of an announcement: it has a text
    assert process().states() == {"a": "queued"}


def test_reply_gets_a_record(process: Callable[..., Process]) -> None:
    it = process()
    it.end(Utterance("reply-1", None, turn=1))
    (record,) = process().history()
    assert (record.id, record.state, record.source, record.text) == ("reply-1", "played", "reply", None)
    assert (record.accepted_at, record.started_at) == (100.0, 101.0)


@pytest.mark.parametrize("transcripts", [True, False])
def test_text_of_an_ended_one_is_kept_only_with_transcripts(
    process: Callable[..., Process], tmp_path: Path, transcripts: bool
) -> None:
    it = process(transcripts=transcripts)
    secret = message("a", "The code is 4711. " * 100)
    it.accept(secret)
    it.end(secret)
    (record,) = it.history()
    assert record.text == ((secret.text or "")[:MAX_KEPT_CHARACTERS].strip() if transcripts else None)
    it.store.close(Deadline(TIMEOUT_SECONDS))
    assert (b"4711" in (tmp_path / "state" / "queue.db").read_bytes()) == transcripts


def test_last_records_are_kept(process: Callable[..., Process]) -> None:
    it = process()
    it.accept(message("waiting"))
    for number in range(MAX_RECORDS + 5):
        it.end(message(f"u{number}"))
    for _ in range(2):
        records = it.history(2 * MAX_RECORDS)
        assert len(records) == MAX_RECORDS + 1
        assert records[0].id == f"u{MAX_RECORDS + 4}" and records[-1].id == "waiting"
        assert [record.id for record in it.history(2)] == [f"u{MAX_RECORDS + 4}", f"u{MAX_RECORDS + 3}"]
        it = process()


def test_same_id_and_text_is_announced_once(process: Callable[..., Process]) -> None:
    it = process()
    assert it.claim(message("a")) == Claim()
    claim = it.claim(message("a"))
    assert claim.record is not None and claim.record.state == "queued" and not claim.is_conflict
    assert it.claim(message("a", "Lunch.")).is_conflict
    it.accept(message("a"))
    it.end(message("a"))
    again = process()
    claim = again.claim(message("a"))
    assert claim.record is not None and claim.record.state == "played" and not claim.is_conflict
    assert again.claim(message("a", "Lunch.")).is_conflict


def test_another_text_conflicts_with_the_id_of_a_complete_text_in_pieces(process: Callable[..., Process]) -> None:
    it = process()
    assert it.claim(message("a", None)) == Claim()
    it.accept(message("a", None))
    assert not it.claim(message("a", "Lunch.")).is_conflict  # the text is not known yet
    it.store.complete("a", "Dinner.")
    for _ in range(2):
        assert it.claim(message("a", "Lunch.")).is_conflict
        for same in ("Dinner.", None):
            claim = it.claim(message("a", same))
            assert claim.record is not None and not claim.is_conflict
        it = process()
        assert len(it.restored()) == 1


@pytest.mark.parametrize(("state", "is_free"), [("failed", True), ("expired", True), ("cancelled", False)])
def test_id_is_free_again_after_a_failure(process: Callable[..., Process], state: str, is_free: bool) -> None:
    it = process()
    it.accept(message("a"))
    it.end(message("a"), state)
    assert (it.claim(message("a", "Lunch.")) == Claim()) == is_free


def test_file_is_private(process: Callable[..., Process], tmp_path: Path) -> None:
    process().accept(message("a"))
    folder = tmp_path / "state"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {"state": 0o700, "queue.db": 0o600, "queue.db-wal": 0o600, "queue.db.reserve": 0o600}


def test_without_a_disk_the_queue_is_in_memory_and_recovers(
    process: Callable[..., Process], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    folder.write_bytes(b"")  # a file instead of the directory refuses every write, also those of root
    it = process()
    assert it.accept(message("a"), message("b")) == [False, False]
    it.begin(message("a"))
    it.end(message("a"))
    assert it.states() == {"a": "played", "b": "queued"}
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    folder.unlink()
    deadline = Deadline(TIMEOUT_SECONDS)
    while not it.store.is_durable("b"):
        assert not deadline.is_expired
        it.history()
    assert it.accept(message("c")) == [True]
    assert process().states() == {"a": "played", "b": "queued", "c": "queued"}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "state" / "queue.db", monkeypatch)


class Disk:
    """A disk that refuses writes with the SQLite error ``error``, if any; ``room``: until the reserve is deleted."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.reserve, self.error, self.room = path, path.with_name("queue.db.reserve"), 0, False
        transact, make_reserve = Database._transact, Database._make_reserve

        def limited_transact(database: Database, *args: Any) -> None:
            if self.error and not (self.room and not self.reserve.exists()):
                error = sqlite3.OperationalError("the disk refuses")
                error.sqlite_errorcode = self.error
                raise error
            transact(database, *args)

        monkeypatch.setattr(Database, "_transact", limited_transact)
        monkeypatch.setattr(Database, "_make_reserve", lambda database: not self.error and make_reserve(database))

    def refuse(self, error: int, *, room: bool = False) -> None:
        self.error, self.room = error, room

    def copy(self, folder: Path) -> Path:
        """Return a copy of what a kill leaves behind: the file and its log."""
        folder.mkdir()
        for name in ("queue.db", "queue.db-wal"):
            (folder / name).write_bytes(self.path.with_name(name).read_bytes())
        return folder / "queue.db"


@pytest.mark.parametrize("error", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR])
def test_announcement_that_is_on_the_disk_is_kept_when_the_disk_fails(
    process: Callable[..., Process], disk: Disk, error: int
) -> None:
    it = process(retry_seconds=3600.0)
    assert it.accept(message("a")) == [True]
    disk.refuse(error)
    assert it.accept(message("b")) == [False]
    assert it.store.is_durable("a") and not it.store.is_durable("b")
    disk.error = 0
    assert process().restored() == (RestoredUtterance(message("a")),)


def test_reserve_keeps_the_file_true_on_a_full_disk(
    process: Callable[..., Process], disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = process(retry_seconds=3600.0)
    assert it.accept(message("a"), message("b")) == [True, True]
    assert disk.reserve.stat().st_size == RESERVE_BYTES
    disk.refuse(sqlite3.SQLITE_FULL, room=True)
    it.begin(message("a"))
    assert it.accept(message("c")) == [True]
    assert it.store.is_durable("b") and it.store.is_durable("c") and not it.store.is_durable("a")
    assert not disk.reserve.exists() and not caplog.records
    killed = Process(disk.copy(tmp_path / "killed"))
    assert [each.utterance.id for each in killed.restored()] == ["b", "c"]
    assert killed.states()["a"] == "interrupted"
    killed.store.close(Deadline(TIMEOUT_SECONDS))
    disk.error = 0
    assert it.accept(message("d")) == [True]
    assert disk.reserve.stat().st_size == RESERVE_BYTES


def test_disk_that_is_full_without_the_reserve_keeps_what_it_has(process: Callable[..., Process], disk: Disk) -> None:
    it = process(retry_seconds=3600.0)
    assert it.accept(message("a"), message("b")) == [True, True]
    disk.refuse(sqlite3.SQLITE_FULL)
    it.begin(message("a"))
    assert it.accept(message("c")) == [False]
    assert it.store.is_durable("b") and not it.store.is_durable("a") and not it.store.is_durable("c")
    disk.error = 0
    assert [each.utterance.id for each in process().restored()] == ["a", "b"]


def test_queue_on_a_disk_that_returns_is_restored_then(process: Callable[..., Process], tmp_path: Path) -> None:
    process().accept(message("old"))
    folder = tmp_path / "state"
    process().store.close(Deadline(TIMEOUT_SECONDS))
    os.rename(folder / "queue.db", folder / "away")
    (folder / "queue.db").mkdir()
    it = process()
    assert it.restored() == ()
    assert it.accept(message("new")) == [False]
    (folder / "queue.db").rmdir()
    os.rename(folder / "away", folder / "queue.db")
    assert it.restored() == (RestoredUtterance(message("old")),)
    assert list(it.states()) == ["new", "old"]
    assert process().states() == {"new": "queued", "old": "queued"}


@pytest.mark.parametrize("damage", ["garbage", "newer", "truncated", "row", "urgency", "state", "time", "rank", "ttl"])
def test_unusable_file_is_renamed(
    process: Callable[..., Process], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    it = process()
    it.accept(*(message(f"u{number}", "word " * 1000) for number in range(20)))
    it.store.close(Deadline(TIMEOUT_SECONDS))
    path = tmp_path / "state" / "queue.db"
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    else:
        change = {
            "newer": "PRAGMA user_version = 2",
            "row": "UPDATE utterances SET delivery = '{}}' WHERE number = 3",
            "urgency": "UPDATE utterances SET urgency = 'extreme' WHERE number = 3",
            "state": "UPDATE utterances SET state = 'queuee' WHERE number = 3",
            "time": "UPDATE utterances SET accepted_at = 1e300 WHERE number = 3",
            "rank": "UPDATE utterances SET priority = 'high' WHERE number = 3",
            "ttl": """UPDATE utterances SET delivery = '{"ttl_seconds": "5"}' WHERE number = 3""",
        }
        with sqlite3.connect(path) as database:
            database.execute(change[damage])
        database.close()
    it = process()
    assert it.restored() == ()
    assert it.accept(message("a")) == [True]
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert len(list(path.parent.glob("queue.db.bad-*"))) == 1
    assert process().states() == {"a": "queued"}


def test_damaged_text_is_spoken_with_the_others(process: Callable[..., Process], tmp_path: Path) -> None:
    it = process()
    it.accept(message("a"), message("b", "Lunch."))
    it.store.close(Deadline(TIMEOUT_SECONDS))
    path = tmp_path / "state" / "queue.db"
    path.write_bytes(path.read_bytes().replace(b"Dinner.", b"Dinn\xe5r."))
    texts = [each.utterance.text for each in process().restored()]
    assert texts == ["Dinn\N{REPLACEMENT CHARACTER}r.", "Lunch."]


def test_second_daemon_does_not_speak_the_same_queue(
    process: Callable[..., Process], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = process()
    it.accept(message("a"))
    second = Process(tmp_path / "state" / "queue.db")
    assert second.restored() == ()
    second.store.close(Deadline(TIMEOUT_SECONDS))
    assert "locked" in caplog.text


class Hang:
    """A disk that does not answer, from the next call of a method of ``Database`` until ``released``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        call = getattr(Database, method)

        def hang(*args: Any, **options: Any) -> Any:
            self.entered.set()
            assert self.released.wait(TIMEOUT_SECONDS)
            return call(*args, **options)

        monkeypatch.setattr(Database, method, hang)


def test_answer_does_not_wait_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    disk = Hang(monkeypatch, "_open")
    store = UtteranceStore(tmp_path / "queue.db", timing=StoreTiming(gate_seconds=0.01, answer_seconds=0.0))
    store.start(events.put)
    claims: list[Claim] = []
    store.claim(message("c"), claims.append)
    assert claims == [Claim()], "there is no file to read"
    store.accept(message("a"))
    store.accept(message("b"))
    store.record_start("a")()
    assert events.get_nowait() == Stored("a", False)
    store.answer_overdue()
    assert events.get_nowait() == Stored("b", False)
    disk.released.set()
    store.close(Deadline(TIMEOUT_SECONDS))


def test_claims_of_a_file_that_hangs_are_answered_as_new(
    process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = process()
    assert it.accept(message("old"), message("same"), message("next")) == [True, True, True]
    it.end(message("same"))
    it.store.close(Deadline(TIMEOUT_SECONDS))
    disk = Hang(monkeypatch, "read")
    it = process()
    claims: list[Claim] = []
    it.store.claim(message("same"), claims.append)
    assert disk.entered.wait(TIMEOUT_SECONDS) and claims == []
    it.store.stop_waiting()
    it.store.claim(message("new"), claims.append)
    assert claims == [Claim(), Claim()]
    it.store.accept(message("same"))
    it.store.accept(message("new"))
    assert list(it.states()) == ["new", "same"]
    disk.released.set()
    assert [each.utterance.id for each in it.restored()] == ["old", "next"]
    assert list(it.states()) == ["new", "same", "next", "old"]
    assert [each.utterance.id for each in process().restored()] == ["old", "next", "same", "new"]


def test_claim_is_answered_while_a_commit_hangs(
    process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = process()
    assert it.claim(message("c")) == Claim()
    assert it.accept(message("a"), message("c")) == [True, True]
    disk = Hang(monkeypatch, "write")
    it.store.accept(message("slow"))
    assert disk.entered.wait(TIMEOUT_SECONDS)
    it.end(message("a"), "failed")
    answers: list[Claim] = []
    for utterance in (message("a"), message("b"), message("b"), message("c", "Lunch.")):
        it.store.claim(utterance, answers.append)
    assert answers[:2] == [Claim(), Claim()], "what has ended meanwhile is known"
    assert answers[2].record is not None and not answers[2].is_conflict and answers[3].is_conflict
    assert not it.store.is_durable("a"), "it is not on the disk"
    disk.released.set()
    assert it.events.get(timeout=TIMEOUT_SECONDS) == Stored("slow", True)
    assert it.accept(message("b")) == [True]
    assert sorted(each.utterance.id for each in process().restored()) == ["a", "b", "c", "slow"]


def test_history_is_read_while_a_commit_hangs(process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch) -> None:
    it = process()
    assert it.accept(message("a")) == [True]
    disk = Hang(monkeypatch, "write")
    it.store.accept(message("slow"))
    assert disk.entered.wait(TIMEOUT_SECONDS)
    it.end(message("a"))
    answers: list[list[HistoryRecord]] = []
    it.store.read_history(5, answers.append)
    assert [(each.id, each.state) for each in answers[0]] == [("slow", "queued"), ("a", "played")]
    disk.released.set()
    assert process().states() == {"a": "played", "slow": "queued"}


def test_start_without_a_thread_promises_no_restored_announcements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.db"
    before = Process(path)
    assert before.accept(Utterance("a", "hello")) == [True]
    before.store.close(Deadline(TIMEOUT_SECONDS))

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", fail)
        after = Process(path)
        assert not after.is_restoring
    after.store.accept(Utterance("b", "hello"))
    assert [each.utterance.id for each in after.restored()] == ["a"]
    after.store.close(Deadline(TIMEOUT_SECONDS))

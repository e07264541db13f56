"""Stores announcements until they are spoken, and the history of utterances, across restarts."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.daemon.store_thread import StoreThread
from agent.daemon.utterance_rows import Entry, decode_row, encode_row
from agent.pipeline.actions import Record
from agent.pipeline.events import Event, LostUtterance, Restored, RestoredUtterance, Stored, WorkerCrashed
from agent.pipeline.history import QUEUED, STARTED, Claim, HistoryRecord
from agent.pipeline.utterance import Urgency, Utterance
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

# The store thread imports the modules for SQLite, JSON and digests, because they would delay the start.
if TYPE_CHECKING:
    from agent.daemon.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_RECORDS = 1000
MAX_KEPT_CHARACTERS = 300
"""Characters of the text that are kept after the end of an utterance, if ``logging.transcripts`` allows it."""
MAX_COMMANDS = 2000
"""Commands that wait while the disk hangs. Further commands are dropped, and their utterances are not durable."""
INTERRUPTED = "the daemon ended while it was spoken"
INCOMPLETE = "the daemon ended before its text was complete"
_UNKNOWN_DIGEST = b""
"""Digest of a claimed utterance whose text arrives in pieces, until the text is complete."""
REPEATABLE = ("failed", "expired")
"""Recorded ends after which a client may use the id again."""


class StoreTiming(NamedTuple):
    """Timings of the store, in seconds. Immutable.

    ``gate_seconds``: longest time that the first sample waits for a commit. ``answer_seconds``: longest time that a
    client waits for a commit. ``retry_seconds``: time between two attempts to use a disk that failed.
    """

    gate_seconds: float = 0.05
    answer_seconds: float = 1.0
    retry_seconds: float = 10.0


class UtteranceStore:
    """Stores utterances in memory and in a file, which the store thread writes.

    The store thread starts with the first utterance, or at ``start`` if the file exists. The state in memory is
    authoritative: with a disk that is full, read-only or slow, only durability is lost. Everything that has not reached
    the disk is written when the disk works again.

    Thread-safe; the section comments name the thread that calls the methods below them. No callback may block.

    Args:
        path: The SQLite file, which need not exist.
        transcripts: Returns whether the beginning of a text is kept after the end of its utterance.
        timing: The timings.
    """

    def __init__(
        self, path: Path, *, transcripts: Callable[[], bool] = lambda: False, timing: StoreTiming | None = None
    ) -> None:
        self._path, self._transcripts, self._timing = path, transcripts, timing or StoreTiming()
        self._report: Callable[[Event], None] = lambda event: None
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._lock = threading.Lock()
        self._thread = StoreThread(
            "utterance store", "queue", self._serve, lambda error: self._report(WorkerCrashed("utterance store", error))
        )
        self._unanswered: dict[str, float] = {}  # by utterance: monotonic time of acceptance
        self._unstarted: set[str] = set()
        self._durable: set[str] = set()  # queued utterances that are on the disk with their whole text
        # Guards the next fields; not held during a commit. A thread that holds this lock may acquire ``_lock``.
        self._memory = threading.Lock()
        self._entries: dict[str, Entry] = {}  # in the order of acceptance
        self._changed: dict[str, Entry] = {}
        self._removed: list[int] = []
        self._last_number = 0
        self._after_commit: list[Callable[[bool], None]] = []
        self._answers: list[Callable[[], None]] = []
        self._is_loaded = False  # or the answers no longer wait for the file; never reset
        # Owned by the store thread:
        self._database: Database | None = None
        self._is_failing = False
        self._writes_all = False
        self._retry_at = Deadline(0.0)
        self._boot_id = ""

    # --- the main thread

    def start(self, report: Callable[[Event], None]) -> bool:
        """Start to report events, and read the file in the store thread.

        Args:
            report: Receives ``Restored`` and ``Stored``, in any thread.

        Returns:
            Whether ``Restored`` follows, with the announcements that were not spoken before the restart.
        """
        self._report = report
        if not os.path.exists(self._path):  # Path.exists() raises an error if the directory is not searchable
            self._is_loaded = True
            return False
        if not self._put(lambda: None):
            self._is_loaded = True  # as after stop_waiting: a later command may start the thread, which reads the file
            return False
        return True

    def stop_waiting(self) -> None:
        """Answer from memory before the file has been read, because the disk hangs.

        ``Restored`` follows when the file has been read. Until then an id that only the file contains counts as new.
        """
        self._is_loaded = True
        self._execute()

    def accept(self, utterance: Utterance) -> None:
        """Store an announcement. ``Stored`` follows unless the announcement ends first."""
        with self._lock:
            self._unanswered[utterance.id] = time.monotonic()
            self._unstarted.add(utterance.id)
        if not self._put(partial(self._accept, utterance, time.time(), _boot_seconds())):
            self._answer(utterance.id, durable=False)

    def complete(self, utterance: str, text: str) -> None:
        """Store the complete text of an announcement whose text arrived in pieces."""
        self._put(partial(self._complete, utterance, text))

    def end(
        self, record: Record, services: tuple[str, ...], text: str, accepted_at: float, started_at: float | None
    ) -> None:
        """Store the recorded end of an utterance. A reply, which was not accepted before, is added first."""
        with self._lock:
            self._unanswered.pop(record.utterance.id, None)
            self._unstarted.discard(record.utterance.id)
        self._put(partial(self._end, record, services, text, accepted_at, started_at, time.time()))

    def answer_overdue(self) -> None:
        """Report each announcement that has waited for a commit longer than ``answer_seconds`` as not durable."""
        if self._unanswered:
            now = time.monotonic()
            with self._lock:
                waiting = list(self._unanswered.items())
            for utterance, at in waiting:
                if now - at > self._timing.answer_seconds:
                    self._answer(utterance, durable=False)

    def is_durable(self, utterance: str) -> bool:
        """Return whether a queued announcement is on the disk, so that it is spoken after a restart."""
        return utterance in self._durable

    def close(self, deadline: Deadline) -> None:
        """Write the pending changes and end the thread. Waits until the deadline: the disk may hang. Idempotent."""
        if self._thread.has_started:
            self._is_closing = True
            self._wake.set()
            self._thread.join(deadline)

    # --- any thread

    def record_start(self, utterance: str) -> Callable[[], None]:
        """Store that an utterance starts.

        Returns:
            A function to call before the first sample is played. It waits for the commit for at most ``gate_seconds``.
            After this timeout the announcement is reported as not durable.
        """
        with self._lock:
            if utterance not in self._unstarted:
                return _do_not_wait
            self._unstarted.discard(utterance)
        done = threading.Event()
        if not self._put(partial(self._start, utterance, done, time.time())):
            return _do_not_wait

        def wait() -> None:
            if not done.wait(self._timing.gate_seconds):
                self._answer(utterance, durable=False)

        return wait

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        """Reserve an id that a client chose. If the answer has no record, the caller must announce the utterance.

        After the file has been read, or after ``stop_waiting``, the answer does not wait for the disk.
        """
        self._ask(lambda: self._claim(utterance), Claim(), answer)

    def release(self, utterance: str) -> None:
        """Remove a claimed id if its text never arrived and nothing was announced."""
        self._put(partial(self._release, utterance))

    def read_history(self, limit: int, answer: Callable[[list[HistoryRecord]], None]) -> None:
        """Pass at most ``limit`` records to ``answer``, newest first. The answer waits for the disk as in ``claim``."""
        unread: list[HistoryRecord] = []
        self._ask(lambda: [each.record for each in reversed(self._entries.values())][:limit], unread, answer)

    def _ask(self, read: Callable[[], T], unread: T, answer: Callable[[T], None]) -> None:
        """Call ``read`` after the queued commands, and pass its result to ``answer``.

        Args:
            read: Reads the memory.
            unread: The result if the store thread cannot accept a command.
            answer: Receives the result, in this thread or in another thread that executes commands.
        """
        if self._is_loaded:  # the store thread may hang in a commit; this makes room for another command
            self._execute()
        if not self._put(lambda: self._answers.append(partial(answer, read()))):
            answer(unread)
        elif self._is_loaded:
            self._execute()

    def _put(self, command: Callable[[], None]) -> bool:
        """Pass a command to the store thread; return ``False`` if it cannot accept the command."""
        if not self._thread.start():
            return False
        if len(self._commands) >= MAX_COMMANDS:
            log.warning("queue: not stored, the disk does not answer, path=%s", self._path)
            return False
        self._commands.append(command)
        self._wake.set()
        return True

    def _execute(self) -> None:
        """Execute the queued commands in order, and pass their answers after the lock is released."""
        with self._memory:
            while self._commands:
                self._commands.popleft()()
            answers, self._answers = self._answers, []
        for answer in answers:
            answer()

    def _answer(self, utterance: str, *, durable: bool) -> None:
        with self._lock:
            is_open = self._unanswered.pop(utterance, None) is not None
        if is_open:
            self._report(Stored(utterance, durable))

    # --- the store thread

    def _serve(self) -> None:
        self._boot_id = _read_boot_id()
        is_open = True
        while is_open:
            self._open()
            if not self._is_loaded:
                self._is_loaded = True
                self._report(Restored())  # the disk does not work; its contents follow when it works again
            self._wake.wait(self._retry_at.remaining() if self._is_failing else None)
            self._wake.clear()
            is_open = not self._is_closing
            self._execute()  # commands that arrived together share one commit
            with self._memory:
                callbacks, self._after_commit = self._after_commit, []
            is_durable = self._commit()
            for callback in callbacks:
                callback(is_durable)
        if self._database is not None:
            self._database.close()

    def _open(self) -> None:
        if self._database is not None or not self._retry_at.is_expired:
            return
        try:
            from agent.daemon.database import Database, DatabaseUnusable
        except OSError as error:  # no file descriptor is free
            self._fail(str(error))
            return
        try:
            database = Database(self._path)
            entries = [] if self._writes_all else self._read(database)
        except DatabaseUnusable as error:
            self._fail(str(error))
            return
        self._database = database
        if not self._writes_all:
            with self._memory:
                self._load(entries)
            self._writes_all = True  # after a failure the file may have been replaced; the memory is written to it

    @staticmethod
    def _read(database: Database) -> list[Entry]:
        try:
            return [decode_row(row) for row in database.read()]
        except (ValueError, TypeError) as error:  # values that this program did not write
            database.replace(f"a row is damaged: {error}")
            return []

    def _fail(self, reason: str) -> None:
        self._retry_at = Deadline(self._timing.retry_seconds)
        if not self._is_failing:
            self._is_failing = True
            log.warning(
                "queue: announcements are lost at the next restart, path=%s, %s. Free disk space or make it writable",
                self._path,
                escape(reason),
            )

    def _commit(self) -> bool:
        if self._database is None:
            return False
        from agent.daemon.database import DatabaseUnusable

        with self._memory:
            if not self._changed and not self._removed and not self._is_failing:
                return True
            entries = [*(self._entries if self._is_failing else self._changed).values()]
            rows = [encode_row(entry) for entry in entries]
            waiting = [entry for entry in entries if _is_waiting(entry)]
            changed, self._changed = self._changed, {}
            removed, self._removed = self._removed, []
        try:
            self._database.write(rows, removed, replaces_all=self._is_failing)
        except DatabaseUnusable as error:
            with self._memory:
                self._changed |= {name: entry for name, entry in changed.items() if self._entries.get(name) is entry}
                self._removed += removed
                if error.is_set_aside:  # otherwise the data on the disk is still valid
                    self._durable.clear()
            self._database = None
            self._fail(str(error))
            return False
        if self._is_failing:
            log.info("queue: written again, path=%s", self._path)
        self._is_failing = False
        with self._memory:  # an entry may have started, or been replaced, during the commit
            kept = (entry for entry in waiting if self._entries.get(entry.record.id) is entry and _is_waiting(entry))
            self._durable |= {entry.record.id for entry in kept}
        return True

    def _load(self, entries: list[Entry]) -> None:
        """Merge the entries of the file into the memory. Entries that are already in memory are newer."""
        newer, self._entries, self._last_number = self._entries, {}, 0
        self._removed.clear()  # these numbers do not belong to rows of the file
        restored: list[RestoredUtterance] = []
        lost: list[LostUtterance] = []
        for entry in entries:
            self._last_number = entry.number
            if entry.record.id not in newer:
                self._entries[entry.record.id] = entry
                if entry.record.state in (QUEUED, STARTED):
                    each = self._restore(entry)
                    restored += [each] if isinstance(each, RestoredUtterance) else []
                    lost += [each] if isinstance(each, LostUtterance) else []
        for entry in newer.values():
            self._add(entry)
            self._changed[entry.record.id] = entry
        if restored:
            log.info("queue: announcements from before the restart, count=%d", len(restored))
        with self._lock:
            self._unstarted |= {each.utterance.id for each in restored}
        self._is_loaded = True
        self._report(Restored(tuple(restored), tuple(lost)))

    def _restore(self, entry: Entry) -> RestoredUtterance | LostUtterance:
        """Decide whether an utterance that had not ended is spoken now, or has ended because of the restart."""
        record, delivery = entry.record, entry.delivery
        utterance = Utterance(
            record.id,
            record.text,
            priority=record.priority,
            source=record.source,
            urgency=Urgency(record.urgency),
            delivery=delivery,
        )
        remaining = None if delivery.ttl_seconds is None else delivery.ttl_seconds - self._age_seconds(entry)
        if record.state == STARTED and not delivery.repeat_after_restart:
            lost = LostUtterance(utterance, "interrupted", INTERRUPTED)
        elif record.text is None:
            lost = LostUtterance(utterance, "failed", INCOMPLETE)
        elif remaining is not None and remaining <= 0:
            lost = LostUtterance(utterance, "expired", f"not audible within {delivery.ttl_seconds:g} s")
        else:
            self._durable.add(record.id)
            if record.state == STARTED:
                self._change(entry, record._replace(state=QUEUED, started_at=None))
            return RestoredUtterance(utterance, remaining)
        self._change(entry, record._replace(state=lost.state, reason=lost.reason, ended_at=time.time()))
        return lost

    def _age_seconds(self, entry: Entry) -> float:
        """Return the seconds since the acceptance, at least 0.

        Until the machine restarts, its boot clock is used, which changes of the time of day do not affect.
        """
        if entry.boot_id == self._boot_id:
            return max(0.0, _boot_seconds() - entry.accepted_boot_seconds)
        return max(0.0, time.time() - entry.record.accepted_at)

    def _accept(self, utterance: Utterance, at: float, boot_seconds: float) -> None:
        record = HistoryRecord(
            utterance.id,
            QUEUED,
            "",
            utterance.source,
            utterance.urgency.value,
            utterance.priority,
            at,
            None,
            None,
            0.0,
            (),
            utterance.text,
        )
        claimed = self._forget(utterance.id)
        digest = None if claimed is None else claimed.digest
        entry = Entry(0, record, digest, utterance.delivery, self._boot_id, boot_seconds)
        self._add(entry)
        self._changed[utterance.id] = entry
        self._after_commit.append(lambda durable: self._answer(utterance.id, durable=durable))

    def _complete(self, utterance: str, text: str) -> None:
        entry = self._entries.get(utterance)
        if entry is not None and entry.record.ended_at is None:
            if entry.digest == _UNKNOWN_DIGEST:
                entry.digest = _digest(text)
            self._change(entry, entry.record._replace(text=text))

    def _start(self, utterance: str, done: threading.Event, at: float) -> None:
        entry = self._entries.get(utterance)
        self._durable.discard(utterance)
        if entry is not None and entry.record.ended_at is None:
            self._change(entry, entry.record._replace(state=STARTED, started_at=at))
        self._after_commit.append(lambda durable: done.set())

    def _end(
        self,
        ended: Record,
        services: tuple[str, ...],
        text: str,
        accepted_at: float,
        started_at: float | None,
        at: float,
    ) -> None:
        utterance = ended.utterance
        self._durable.discard(utterance.id)
        if utterance.id not in self._entries:
            self._accept(utterance, accepted_at, _boot_seconds())
        entry = self._entries[utterance.id]
        record = entry.record._replace(
            state=ended.state,
            reason=ended.reason,
            started_at=started_at,
            ended_at=at,
            seconds=round(ended.seconds, 3),
            services=services,
            text=text[:MAX_KEPT_CHARACTERS] if text else entry.record.text,
        )
        self._change(entry, record)
        self._limit()

    def _claim(self, utterance: Utterance) -> Claim:
        entry = self._entries.get(utterance.id)
        digest = _UNKNOWN_DIGEST if utterance.text is None else _digest(utterance.text)
        if entry is None or entry.record.state in REPEATABLE:
            self._accept(utterance, time.time(), _boot_seconds())  # a second claim of this id finds this entry
            self._entries[utterance.id].digest = digest
            return Claim()
        return Claim(entry.record, is_conflict=bool(digest and entry.digest and digest != entry.digest))

    def _release(self, utterance: str) -> None:
        entry = self._entries.get(utterance)
        if entry is not None and entry.record.state == QUEUED and entry.record.text is None:
            self._forget(utterance)

    # --- shared by the commands

    def _add(self, entry: Entry) -> None:
        self._last_number += 1
        entry.number = self._last_number
        self._entries[entry.record.id] = entry

    def _change(self, entry: Entry, record: HistoryRecord) -> None:
        if record.ended_at is not None:
            is_kept = self._transcripts() and record.text is not None
            # A text that arrived in pieces may end with line breaks, which complete the last sentence.
            text = record.text[:MAX_KEPT_CHARACTERS].strip() if is_kept and record.text else None
            record = record._replace(text=text)
        entry.record = record
        self._changed[record.id] = entry

    def _forget(self, utterance: str) -> Entry | None:
        if (entry := self._entries.pop(utterance, None)) is not None:
            self._changed.pop(utterance, None)
            self._durable.discard(utterance)
            self._removed.append(entry.number)
        return entry

    def _limit(self) -> None:
        """Remove the oldest ended records beyond ``MAX_RECORDS``."""
        if len(self._entries) <= MAX_RECORDS:
            return
        ended = [entry.record.id for entry in self._entries.values() if entry.record.ended_at is not None]
        for utterance in ended[: max(0, len(ended) - MAX_RECORDS)]:
            self._forget(utterance)


def _do_not_wait() -> None:
    """Return immediately, because the start of the utterance need not be stored."""


def _is_waiting(entry: Entry) -> bool:
    return entry.record.state == QUEUED and entry.record.text is not None


def _digest(text: str) -> bytes:
    import hashlib  # it loads OpenSSL, which takes 4 MB, and most clients choose no id

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _boot_seconds() -> float:
    """Return the seconds since the machine started, including suspends."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""

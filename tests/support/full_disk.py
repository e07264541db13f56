"""The stores on a small file system that becomes full, in processes that are killed.

Usage: ``python -m support.full_disk FOLDER``. FOLDER is an empty file system of about 1 MB.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from agent.daemon.database import COLUMNS, RESERVE_BYTES, Database
from agent.daemon.timer_store import TimerStore
from agent.daemon.utterance_store import StoreTiming, UtteranceStore
from agent.pipeline.events import Event, Restored, Stored, TimersRestored
from agent.pipeline.timers import Timer
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

SECONDS = 30.0
TIMERS = (Timer(1, "tea", "en", 60.0), Timer(2, "eggs", "en", 60.0))


def killed(work: Callable[[Path], None], folder: Path) -> None:
    """Do the work in a process that is killed at its end."""
    if (child := os.fork()) == 0:
        try:
            work(folder)
        except BaseException:  # noqa: BLE001 - it ends this process
            traceback.print_exc()
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), work.__name__


def fill(folder: Path) -> None:
    """Use all free space."""
    with open(folder / "other", "ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def open_queue(folder: Path) -> tuple[UtteranceStore, queue.SimpleQueue[Event]]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = UtteranceStore(folder / "queue.db", timing=StoreTiming(gate_seconds=SECONDS))
    store.start(events.put)
    return store, events


def accept(store: UtteranceStore, events: queue.SimpleQueue[Event], name: str) -> None:
    store.accept(Utterance(name, "Dinner."))
    while not isinstance(event := events.get(timeout=SECONDS), Stored):
        pass
    assert event == Stored(name, True)


def speak(folder: Path) -> None:
    store, events = open_queue(folder)
    accept(store, events, "started")
    accept(store, events, "waiting")
    fill(folder)
    store.record_start("started")()
    accept(store, events, "new")
    assert store.is_durable("waiting")


def speak_again(folder: Path) -> None:
    store, events = open_queue(folder)
    event = events.get(timeout=SECONDS)
    assert isinstance(event, Restored)
    assert [each.utterance.id for each in event.utterances] == ["waiting", "new"]
    accept(store, events, "full")
    (folder / "other").unlink()
    accept(store, events, "last")
    assert (folder / "queue.db.reserve").stat().st_blocks * 512 >= RESERVE_BYTES


def save(store: TimerStore, timers: tuple[Timer, ...]) -> None:
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    store.save(timers, answers.put)
    assert answers.get(timeout=SECONDS)


def cancel_timer(folder: Path) -> None:
    store = TimerStore(folder / "timers.db")
    save(store, TIMERS)
    fill(folder)
    save(store, TIMERS[:1])


def ring(folder: Path) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = TimerStore(folder / "timers.db")
    store.start(events.put, Deadline(SECONDS))
    assert events.get(timeout=SECONDS) == TimersRestored(TIMERS[:1])
    (folder / "other").unlink()
    save(store, TIMERS[1:])
    assert (folder / "timers.db.reserve").exists()


def use_the_whole_reserve(folder: Path) -> None:
    """The log and the file share the reserve: most of it becomes rows."""
    database = Database(folder / "many.db")
    blank = [None] * (len(COLUMNS) - 1)
    database.write([(1, "1", *blank)], [])
    fill(folder)
    for number in range(2, 2 + RESERVE_BYTES // 2 // 2048):
        database.write([(number, str(number), *blank[:10], "x" * 1500, *blank[11:])], [])


if __name__ == "__main__":
    for step in (cancel_timer, ring, speak, speak_again, use_the_whole_reserve):
        killed(step, Path(sys.argv[1]))

"""A process that stood still learns of it before anything from before goes on, and one that is busy never does."""

from __future__ import annotations

import threading
import time

import pytest

from agent.daemon import suspend as standstill
from agent.daemon.suspend import SuspendDetector
from agent.system.threads import Deadline, Worker

TIMEOUT_SECONDS = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class HostFacts(list[str]):
    """What a standstill told, which is looked at by the minute of ``clock``."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.standstill = SuspendDetector(self.append, 10.0, self.clock)

    def after(self, seconds: float) -> HostFacts:
        self.clock.now += seconds
        self.standstill.look()
        return self


def test_who_did_not_run_for_longer_than_the_limit_is_told_for_how_long_and_once() -> None:
    told = HostFacts().after(0.0).after(61.2).after(0.1)
    assert told == ["a standstill of 61 s"]
    assert told.standstill.over() == "a standstill of 61 s"
    assert told.standstill.over() is None
    told.after(3600.0)
    assert told.standstill.over() == "a standstill of 3600 s"


def test_a_machine_that_is_busy_is_no_standstill_however_long_it_is() -> None:
    told = HostFacts()
    for _ in range(100):
        told.after(9.9)
    assert told == [] and told.standstill.over() is None


def test_a_slow_start_is_none_either() -> None:
    assert HostFacts().after(60.0) == []


def test_whoever_decides_is_told_also_where_nobody_else_has_looked() -> None:
    told = HostFacts().after(0.0)
    told.clock.now += 20.0
    assert told.standstill.over() == "a standstill of 20 s"


def test_time_that_the_machine_slept_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock leaves it out: in the morning the rest of last night's sentence was said."""
    told: list[str] = []
    still = SuspendDetector(told.append)
    hours = [0.0, 8.0]
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)

    def clocks(clock: int) -> float:
        assert clock == time.CLOCK_BOOTTIME, "no other one counts it"
        return boot + 3600.0 * hours.pop(0)

    monkeypatch.setattr(standstill.time, "clock_gettime", clocks)
    still.look()
    still.look()
    assert told == ["a standstill of 28800 s"]


def test_nobody_goes_on_before_what_is_old_has_been_dropped() -> None:
    clock, dropping, dropped = Clock(), threading.Event(), threading.Event()
    order: list[str] = []

    def tell(by: str) -> None:
        dropping.set()
        dropped.wait(TIMEOUT_SECONDS)
        order.append("dropped")

    def second() -> None:
        still.look()
        order.append("goes on")

    still = SuspendDetector(tell, 10.0, clock)
    still.look()
    clock.now += 60.0
    threads = [threading.Thread(target=still.look), threading.Thread(target=second)]
    threads[0].start()
    assert dropping.wait(TIMEOUT_SECONDS)
    threads[1].start()
    threads[1].join(0.1)
    assert order == []
    dropped.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    assert order == ["dropped", "goes on"]


class Beating(Worker):
    def __init__(self) -> None:
        super().__init__("beating", lambda name, error: None)

    def run(self) -> None:
        self.heartbeat()


def test_a_worker_that_is_watched_looks_at_every_beat() -> None:
    told = HostFacts().after(0.0)
    worker = Beating()
    told.standstill.watch([worker])
    told.clock.now += 20.0
    worker.start()
    assert worker.join(Deadline(TIMEOUT_SECONDS))
    assert told == ["a standstill of 20 s"]

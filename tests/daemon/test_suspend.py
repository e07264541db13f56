from __future__ import annotations

import threading
import time

import pytest
from support.timing import Clock

from agent.daemon.suspend import SuspendDetector
from agent.system.threads import Deadline, Worker

TIMEOUT_SECONDS = 30.0


class Reasons(list[str]):
    """The reasons that a detector on a simulated clock reported."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(1000.0)
        self.detector = SuspendDetector(self.append, 10.0, self.clock)

    def after(self, seconds: float) -> Reasons:
        self.clock.now += seconds
        self.detector.check()
        return self


def test_pause_above_the_limit_is_reported_once() -> None:
    reasons = Reasons().after(0.0).after(61.2).after(0.1)
    assert reasons == ["a suspend of 61 s"]
    assert reasons.detector.take_reason() == "a suspend of 61 s"
    assert reasons.detector.take_reason() is None
    reasons.after(3600.0)
    assert reasons.detector.take_reason() == "a suspend of 3600 s"


def test_pauses_below_the_limit_are_not_reported() -> None:
    reasons = Reasons()
    for _ in range(100):
        reasons.after(9.9)
    assert reasons == [] and reasons.detector.take_reason() is None


def test_first_check_reports_nothing() -> None:
    assert Reasons().after(60.0) == []


def test_take_reason_checks_the_clock() -> None:
    reasons = Reasons().after(0.0)
    reasons.clock.now += 20.0
    assert reasons.detector.take_reason() == "a suspend of 20 s"


def test_default_clock_includes_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    detector = SuspendDetector(reasons.append)
    hours = [0.0, 8.0]
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)

    def clocks(clock: int) -> float:
        assert clock == time.CLOCK_BOOTTIME, "the monotonic clock excludes sleep"
        return boot + 3600.0 * hours.pop(0)

    monkeypatch.setattr(time, "clock_gettime", clocks)
    detector.check()
    detector.check()
    assert reasons == ["a suspend of 28800 s"]


def test_other_checks_wait_for_on_suspend() -> None:
    clock, dropping, dropped = Clock(1000.0), threading.Event(), threading.Event()
    order: list[str] = []

    def drop(reason: str) -> None:
        dropping.set()
        dropped.wait(TIMEOUT_SECONDS)
        order.append("dropped")

    def second() -> None:
        detector.check()
        order.append("continues")

    detector = SuspendDetector(drop, 10.0, clock)
    detector.check()
    clock.now += 60.0
    threads = [threading.Thread(target=detector.check), threading.Thread(target=second)]
    threads[0].start()
    assert dropping.wait(TIMEOUT_SECONDS)
    threads[1].start()
    threads[1].join(0.1)
    assert order == []
    dropped.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    assert order == ["dropped", "continues"]


class Beating(Worker):
    def __init__(self) -> None:
        super().__init__("beating", lambda name, error: None)

    def run(self) -> None:
        self.heartbeat()


def test_watched_worker_checks_with_each_heartbeat() -> None:
    reasons = Reasons().after(0.0)
    worker = Beating()
    reasons.detector.watch([worker])
    reasons.clock.now += 20.0
    worker.start()
    assert worker.join(Deadline(TIMEOUT_SECONDS))
    assert reasons == ["a suspend of 20 s"]

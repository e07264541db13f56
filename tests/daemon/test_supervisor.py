from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from agent.daemon.supervisor import Supervisor
from agent.system.threads import Deadline, Worker


class FakeWorker(Worker):
    """Ends with ``stop``; with ``needs_abort`` only with ``abort``; with ``stuck`` at the end of the test."""

    stall_timeout = 0.05

    def __init__(self, name: str, calls: list[str], *, needs_abort: bool = False, stuck: bool = False) -> None:
        super().__init__(name, lambda name, error: None)
        self.ended = threading.Event()
        self._calls, self._needs_abort, self._stuck = calls, needs_abort, stuck

    def run(self) -> None:
        self.ended.wait(60)
        self._calls.append(f"{self.name} ended")

    def stop(self) -> None:
        self._calls.append(f"stop {self.name}")
        if not self._needs_abort and not self._stuck:
            self.ended.set()

    def abort(self) -> None:
        self._calls.append(f"abort {self.name}")
        if not self._stuck:
            self.ended.set()

    def join(self, deadline: Deadline) -> bool:
        """Wait for a worker that may end, however slow the machine is."""
        return super().join(Deadline(20.0) if self.ended.is_set() else deadline)


@pytest.fixture
def workers() -> Iterator[list[FakeWorker]]:
    made: list[FakeWorker] = []
    yield made
    for worker in made:
        worker.ended.set()
        assert worker.join(Deadline(10.0))


def test_stop_ends_workers_in_order_without_cancelling(workers: list[FakeWorker]) -> None:
    calls: list[str] = []
    workers += [FakeWorker("first", calls), FakeWorker("second", calls)]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    drained: list[int] = []
    assert supervisor.stop(Deadline(10.0), lambda: drained.append(1), lambda: calls.append("cancel")) == []
    assert [word for word in calls if word.startswith("stop")] == ["stop first", "stop second"]
    assert "cancel" not in calls and not any(word.startswith("abort") for word in calls)
    assert drained


def test_stop_cancels_and_then_aborts_a_slow_worker(workers: list[FakeWorker]) -> None:
    calls: list[str] = []
    workers += [FakeWorker("quick", calls), FakeWorker("slow", calls, needs_abort=True)]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    assert supervisor.stop(Deadline(0.5), cancel=lambda: calls.append("cancel")) == []
    assert calls.index("cancel") < calls.index("abort slow")
    assert "abort quick" not in calls


def test_stop_returns_a_stuck_worker_in_time(workers: list[FakeWorker]) -> None:
    workers += [FakeWorker("fine", []), FakeWorker("stuck", [], stuck=True)]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    deadline = Deadline(20.0)
    assert supervisor.stop(Deadline(0.5)) == ["stuck"]
    assert not deadline.is_expired


def test_check_heartbeats_returns_the_worker_without_heartbeats(workers: list[FakeWorker]) -> None:
    workers += [FakeWorker("moving", []), FakeWorker("still", [])]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    ends, stuck = Deadline(10.0), list[str]()
    while not stuck and not ends.is_expired:
        workers[0].heartbeat()
        stuck = supervisor.check_heartbeats()
    assert stuck == ["still"]


def test_longest_stall_timeout_counts_until_the_next_heartbeat(workers: list[FakeWorker]) -> None:
    workers += [FakeWorker("speaker", [])]
    (speaker,) = workers
    supervisor = Supervisor(list(workers))
    supervisor.start()
    speaker.stall_timeout = 60.0
    ends = Deadline(0.3)
    while not ends.is_expired:
        assert supervisor.check_heartbeats() == []
    speaker.stall_timeout = 0.05
    assert supervisor.check_heartbeats() == []
    speaker.heartbeat()
    assert supervisor.check_heartbeats() == []
    ends = Deadline(10.0)
    while not (stuck := supervisor.check_heartbeats()) and not ends.is_expired:
        pass
    assert stuck == ["speaker"], "the short timeout counts from the next heartbeat"


def test_stop_does_not_abort_a_worker_that_ends_after_cancel(workers: list[FakeWorker]) -> None:
    calls: list[str] = []

    class Speaker(FakeWorker):
        cancelled = False

        def join(self, deadline: Deadline) -> bool:
            if self.cancelled:
                self.ended.set()  # within the cancel phase
            return super().join(deadline)

    speaker = Speaker("speaker", calls, needs_abort=True)
    workers += [speaker]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    assert supervisor.stop(Deadline(1.0), cancel=lambda: setattr(speaker, "cancelled", True)) == []
    assert calls == ["stop speaker", "speaker ended"]


def test_ended_worker_is_not_stuck(workers: list[FakeWorker]) -> None:
    workers += [FakeWorker("ended", [])]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    workers[0].ended.set()
    assert workers[0].join(Deadline(10.0))
    ends = Deadline(0.2)
    while not ends.is_expired:
        assert supervisor.check_heartbeats() == []


def test_exception_of_run_is_passed_to_on_crash() -> None:
    class Faulty(Worker):
        def run(self) -> None:
            raise LookupError("unexpected")

    crashes: list[tuple[str, BaseException]] = []
    worker = Faulty("faulty", lambda name, error: crashes.append((name, error)))
    worker.start()
    assert worker.join(Deadline(10.0))
    ((name, error),) = crashes
    assert name == "faulty" and isinstance(error, LookupError)

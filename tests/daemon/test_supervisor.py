"""Workers are started last first, watched, ended by end-of-stream, and cut where that takes too long."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from agent.daemon.supervisor import Supervisor
from agent.system.threads import Deadline, Worker


class Obedient(Worker):
    """Ends when it is told to; ``needs_abort``: only by force; ``deaf``: not even so, until the test is over."""

    stall_timeout = 0.05

    def __init__(self, name: str, diary: list[str], *, needs_abort: bool = False, deaf: bool = False) -> None:
        super().__init__(name, lambda name, error: None)
        self.over = threading.Event()
        self._diary, self._needs_abort, self._deaf = diary, needs_abort, deaf

    def run(self) -> None:
        self.over.wait(60)
        self._diary.append(f"{self.name} ended")

    def stop(self) -> None:
        self._diary.append(f"stop {self.name}")
        if not self._needs_abort and not self._deaf:
            self.over.set()

    def abort(self) -> None:
        self._diary.append(f"abort {self.name}")
        if not self._deaf:
            self.over.set()

    def join(self, deadline: Deadline) -> bool:
        """Who may end is waited for: how long its thread takes to do so says more about the machine."""
        return super().join(Deadline(20.0) if self.over.is_set() else deadline)


@pytest.fixture
def workers() -> Iterator[list[Obedient]]:
    made: list[Obedient] = []
    yield made
    for worker in made:
        worker.over.set()
        assert worker.join(Deadline(10.0))


def test_who_does_as_told_is_stopped_and_joined_and_nobody_is_cut(workers: list[Obedient]) -> None:
    diary: list[str] = []
    workers += [Obedient("first", diary), Obedient("second", diary)]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    tended: list[int] = []
    assert supervisor.stop(Deadline(10.0), lambda: tended.append(1), lambda: diary.append("cut")) == []
    assert [word for word in diary if word.startswith("stop")] == ["stop first", "stop second"]
    assert "cut" not in diary and not any(word.startswith("abort") for word in diary)
    assert tended


def test_a_straggler_is_cut_and_aborted_after_the_gentle_part(workers: list[Obedient]) -> None:
    diary: list[str] = []
    workers += [Obedient("quick", diary), Obedient("slow", diary, needs_abort=True)]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    assert supervisor.stop(Deadline(0.5), lambda: None, lambda: diary.append("cut")) == []
    assert diary.index("cut") < diary.index("abort slow")
    assert "abort quick" not in diary


def test_who_cannot_be_ended_is_named_in_time(workers: list[Obedient]) -> None:
    workers += [Obedient("fine", []), Obedient("stuck", [], deaf=True)]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    deadline = Deadline(20.0)
    assert supervisor.stop(Deadline(0.5), lambda: None, lambda: None) == ["stuck"]
    assert not deadline.is_expired


def test_one_whose_counter_stands_still_is_stuck_and_one_that_moves_is_not(workers: list[Obedient]) -> None:
    workers += [Obedient("moving", []), Obedient("still", [])]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    ends, stuck = Deadline(10.0), list[str]()
    while not stuck and not ends.is_expired:
        workers[0].heartbeat()
        stuck = supervisor.stuck()
    assert stuck == ["still"]


def test_a_slow_call_that_was_announced_and_has_just_ended_is_no_reason_for_alarm(workers: list[Obedient]) -> None:
    """A card takes five seconds to open, and the speaker says so beforehand. Its patience was short again before its
    next round began: in between, the daemon took it for stuck, and ended itself."""
    workers += [Obedient("speaker", [])]
    (speaker,) = workers
    supervisor = Supervisor(list(workers))
    supervisor.start()
    speaker.stall_timeout = 60.0
    ends = Deadline(0.3)
    while not ends.is_expired:
        assert supervisor.stuck() == []
    speaker.stall_timeout = 0.05
    assert supervisor.stuck() == []
    speaker.heartbeat()
    assert supervisor.stuck() == []
    ends = Deadline(10.0)
    while not (stuck := supervisor.stuck()) and not ends.is_expired:
        pass
    assert stuck == ["speaker"], "and from its next round on the short patience counts"


def test_who_ends_by_itself_once_it_was_cut_is_not_aborted(workers: list[Obedient]) -> None:
    """What is being said is cut, and in the same breath the speaker was aborted: it could not say any more how much
    had been heard, and the record said 0.0 s."""
    diary: list[str] = []

    class Speaker(Obedient):
        cut = False

        def join(self, deadline: Deadline) -> bool:
            if self.cut:
                self.over.set()  # in the moment that is left to it
            return super().join(deadline)

    speaker = Speaker("speaker", diary, needs_abort=True)
    workers += [speaker]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    assert supervisor.stop(Deadline(1.0), lambda: None, lambda: setattr(speaker, "cut", True)) == []
    assert diary == ["stop speaker", "speaker ended"]


def test_one_that_has_ended_is_not_stuck(workers: list[Obedient]) -> None:
    workers += [Obedient("ended", [])]
    supervisor = Supervisor(list(workers))
    supervisor.start()
    workers[0].over.set()
    assert workers[0].join(Deadline(10.0))
    ends = Deadline(0.2)
    while not ends.is_expired:
        assert supervisor.stuck() == []


def test_exception_of_run_is_passed_to_on_crash() -> None:
    class Faulty(Worker):
        def run(self) -> None:
            raise LookupError("nobody foresaw this")

    crashes: list[tuple[str, BaseException]] = []
    worker = Faulty("faulty", lambda name, error: crashes.append((name, error)))
    worker.start()
    assert worker.join(Deadline(10.0))
    ((name, error),) = crashes
    assert name == "faulty" and isinstance(error, LookupError)

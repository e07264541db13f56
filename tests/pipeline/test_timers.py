from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.timers import MAX_TIMERS, Changes, Clock, Timer, TimerError, Timers, TimerState, local_seconds


class Machine:
    """The clocks of a machine that the test moves."""

    def __init__(self, boot_id: str = "first") -> None:
        self.boot_seconds, self.now, self.is_set = 100.0, local_seconds("2026-11-29 12:00"), True
        self.clock = Clock(lambda: self.boot_seconds, lambda: self.now, lambda: self.is_set, boot_id)

    def wait(self, seconds: float) -> None:
        self.boot_seconds += seconds
        self.now += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_timers_ring_in_the_order_of_their_ends(machine: Machine) -> None:
    timers = Timers(machine.clock)
    timers.start(30.0, "tea")
    timers.start(10.0)
    assert timers.seconds_to_next() == 10.0
    machine.wait(9.9)
    assert timers.take_due() == []
    machine.wait(0.1)
    assert [each.number for each in timers.take_due()] == [2]
    assert timers.take_due() == []
    machine.wait(20.0)
    assert [each.name for each in timers.take_due()] == ["tea"]
    assert {each.number for each in timers.stop_ringing()} == {1, 2}
    assert timers.all == ()


@pytest.mark.usefixtures("berlin")
def test_alarm_that_is_set_in_the_repeated_hour_rings_in_it(machine: Machine) -> None:
    machine.now = local_seconds("2026-10-25 02:15") + 3600.0  # 2:15 for the second time
    timers = Timers(machine.clock)
    alarm = timers.set_alarm("2026-10-25 02:30")
    assert timers.take_due() == [] and timers.seconds_to_next() == 900.0
    assert alarm.ends_at == machine.now + 900.0
    machine.wait(900.0)
    assert [each.number for each in timers.take_due()] == [alarm.number]


def test_change_of_the_time_of_day_moves_no_timer(machine: Machine) -> None:
    timers = Timers(machine.clock)
    timers.start(10.0)
    machine.now += 86400.0
    assert timers.take_due() == [] and timers.seconds_to_next() == 10.0


def test_paused_timer_keeps_what_remains(machine: Machine) -> None:
    timers = Timers(machine.clock)
    number = timers.start(60.0).number
    machine.wait(20.0)
    timers.pause(number)
    machine.wait(1000.0)
    assert timers.take_due() == [] and timers.seconds_to_next() is None
    assert timers.pause(number) is None
    timers.resume(number)
    assert timers.seconds_to_next() == 40.0
    timers.extend(number, 20.0)
    assert timers.seconds_to_next() == 60.0
    timers.extend(number, -100.0)
    assert timers.seconds_to_next() == 1.0


def test_time_added_to_a_ringing_timer_counts_from_now(machine: Machine) -> None:
    timers = Timers(machine.clock)
    number = timers.start(10.0).number
    machine.wait(10.0)
    timers.take_due()
    machine.wait(30.0)
    timers.extend(number, 60.0)
    assert timers.seconds_to_next() == 60.0


def test_snoozed_alarm_rings_again_after_the_time_that_was_asked_for(machine: Machine) -> None:
    timers = Timers(machine.clock)
    timers.set_alarm("2026-11-29 12:01")
    machine.wait(60.0)
    (alarm,) = timers.take_due()
    assert alarm.state is TimerState.RINGING
    (snoozed,) = timers.snooze(300.0)
    assert timers.take_due() == [] and timers.remaining(snoozed) == 300.0
    machine.wait(300.0)
    assert [each.number for each in timers.take_due()] == [alarm.number]


def test_alarm_follows_the_clock_on_the_wall(machine: Machine, berlin: None) -> None:
    machine.now = local_seconds("2026-03-28 22:00")  # the clocks go forward at 2:00 in this night
    timers = Timers(machine.clock)
    timers.set_alarm("2026-03-29 07:00")
    assert timers.seconds_to_next() == 8 * 3600.0


@pytest.mark.parametrize(("alarm", "moment"), [("2026-03-29 02:30", "03:30"), ("2026-10-25 02:30", "02:30")])
def test_alarm_at_a_time_that_is_skipped_or_occurs_twice_has_one_moment(berlin: None, alarm: str, moment: str) -> None:
    assert time.strftime("%H:%M", time.localtime(local_seconds(alarm))) == moment


def test_alarm_waits_until_the_clock_is_set(machine: Machine) -> None:
    timers = Timers(machine.clock)
    timers.set_alarm("2026-11-29 11:59")
    machine.is_set = False
    assert timers.take_due() == []
    machine.is_set = True
    assert [each.alarm for each in timers.take_due()] == ["2026-11-29 11:59"]


def test_timers_survive_a_restart_of_the_daemon_exactly(machine: Machine) -> None:
    saved: list[tuple[Timer, ...]] = []
    timers = Timers(machine.clock, lambda timers, changes: saved.append(timers))
    timers.start(100.0, "tea")
    timers.pause(timers.start(50.0).number)
    machine.wait(30.0)
    machine.now -= 5000.0
    restored = Timers(machine.clock)
    restored.restore(saved[-1])
    assert [(each.name, restored.remaining(each)) for each in restored.all] == [("", 50.0), ("tea", 70.0)]


def test_older_timers_are_not_saved_after_those_of_another_thread(machine: Machine) -> None:
    timers = Timers(machine.clock)
    may_change: list[bool] = []

    def save(saved: tuple[Timer, ...], done: Callable[[bool], None]) -> None:
        other = threading.Thread(target=lambda: may_change.append(timers._lock.acquire(blocking=False)))
        other.start()
        other.join()

    DeviceControl(lambda event: None, timers, save, lambda: 50).save_timers_then(lambda durable: None)
    assert may_change == [False]


@pytest.mark.parametrize(("off_seconds", "left"), [(40.0, 60.0), (-100_000.0, 100.0)])
def test_timer_of_another_start_of_the_machine_goes_by_the_time_of_day(
    machine: Machine, off_seconds: float, left: float
) -> None:
    """A clock that is behind, as on a machine without a clock of its own, cannot make a timer longer than it was."""
    saved: list[tuple[Timer, ...]] = []
    Timers(machine.clock, lambda timers, changes: saved.append(timers)).start(100.0)
    after = Machine("second")
    after.boot_seconds, after.now = 5.0, machine.now + off_seconds
    restored = Timers(after.clock)
    restored.restore(saved[-1])
    assert restored.seconds_to_next() == left


def test_extended_and_snoozed_timers_keep_their_length_over_a_restart_of_the_machine(machine: Machine) -> None:
    saved: list[tuple[Timer, ...]] = []
    timers = Timers(machine.clock, lambda timers, changes: saved.append(timers))
    timers.extend(timers.start(100.0, "extended").number, 900.0)
    timers.start(10.0, "snoozed")
    machine.wait(10.0)
    timers.take_due()
    timers.snooze(300.0)
    after = Machine("second")
    after.now = machine.now + 50.0
    restored = Timers(after.clock)
    restored.restore(saved[-1])
    assert [(each.name, restored.remaining(each)) for each in restored.all] == [("snoozed", 250.0), ("extended", 940.0)]


def test_timer_that_ended_long_ago_is_missed_and_does_not_ring(machine: Machine) -> None:
    timers = Timers(machine.clock)
    timers.start(10.0)
    timers.start(400.0)
    machine.wait(611.0)
    missed, ringing = sorted(timers.take_due())
    assert missed.state is TimerState.RUNNING and timers.is_missed(missed)
    assert ringing.state is TimerState.RINGING
    assert [each.number for each in timers.all] == [ringing.number]


def test_ringing_timer_rings_again_after_a_restart(machine: Machine) -> None:
    saved: list[tuple[Timer, ...]] = []
    timers = Timers(machine.clock, lambda timers, changes: saved.append(timers))
    timers.start(10.0)
    machine.wait(10.0)
    timers.take_due()
    restored = Timers(machine.clock)
    restored.restore(saved[-1])
    assert len(restored.take_due()) == 1


def test_timer_set_before_the_file_was_read_keeps_its_number(machine: Machine) -> None:
    timers = Timers(machine.clock)
    first = timers.start(10.0, "new")
    timers.restore((Timer(1, "old", seconds=20.0, ends_boot_seconds=120.0, boot_id="first"),))
    assert {each.name: each.number for each in timers.all} == {"new": first.number, "old": 2}


@pytest.mark.parametrize(("seconds", "reason"), [(0.0, "short"), (400_000.0, "long")])
def test_length_of_a_timer_is_bounded(machine: Machine, seconds: float, reason: str) -> None:
    with pytest.raises(TimerError, match=reason):
        Timers(machine.clock).start(seconds)


def test_number_of_timers_is_bounded(machine: Machine) -> None:
    timers = Timers(machine.clock)
    for _ in range(MAX_TIMERS):
        timers.start(10.0)
    with pytest.raises(TimerError, match="many"):
        timers.set_alarm("2026-11-30 07:00")


def test_every_change_names_its_timers(machine: Machine) -> None:
    seen: list[tuple[int, str]] = []

    def changed(timers: tuple[Timer, ...], changes: Changes) -> None:
        seen.extend((timer.number, change.value) for timer, change in changes)

    timers = Timers(machine.clock, changed)
    timers.start(10.0)
    timers.start(20.0)
    timers.set_alarm("2026-11-30 07:00")
    timers.pause(2)
    timers.resume(2)
    timers.extend(2, 5.0)
    timers.cancel((3,))
    assert seen == [(1, "started"), (2, "started"), (3, "started"), *[(2, "changed")] * 3, (3, "cancelled")]
    seen.clear()
    machine.wait(10.0)
    timers.take_due()
    timers.snooze(5.0)
    machine.wait(5.0)
    timers.take_due()
    timers.stop_ringing()
    machine.wait(700.0)
    timers.take_due()
    assert seen == [(1, "ringing"), (1, "changed"), (1, "ringing"), (1, "ended"), (2, "missed")]


def test_timer_survives_a_clock_that_is_set_and_then_a_loss_of_power(machine: Machine) -> None:
    saved: list[tuple[Timer, ...]] = []
    timers = Timers(machine.clock, lambda timers, changes: saved.append(timers))
    timers.start(3600.0)
    machine.now += 2 * 86400.0  # a machine without a clock of its own gets the time from the network
    timers.refresh()
    machine.wait(600.0)
    after = Machine("second")
    after.now = machine.now
    again = Timers(after.clock)
    again.restore(saved[-1])
    assert again.seconds_to_next() == 3000.0

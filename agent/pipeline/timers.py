"""Timers and alarms: keeps them, decides when they ring, and restores them after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

MAX_TIMERS = 50
MAX_NAME_CHARACTERS = 60
MAX_TIMER_SECONDS = 100 * 3600.0
ALARM_FORMAT = "%Y-%m-%d %H:%M"
MISSED_SECONDS = 600.0
"""A timer that ended longer ago is announced as missed and does not ring."""


class TimerError(Exception):
    """A timer cannot be set. The message is the name of the reason: ``many``, ``long`` or ``short``."""


class TimerState(Enum):
    """The state of a timer."""

    RUNNING = "running"
    PAUSED = "paused"
    RINGING = "ringing"


class TimerChange(Enum):
    """What has happened to a timer.

    ``CHANGED``: it was extended, shortened, paused, resumed or snoozed. ``ENDED``: it was removed after it rang, by the
    user or because it rang for too long. ``CANCELLED``: it was removed before it rang. ``MISSED``: it ended more than
    ``MISSED_SECONDS`` ago, for example while the daemon was off.
    """

    STARTED = "started"
    CHANGED = "changed"
    RINGING = "ringing"
    ENDED = "ended"
    CANCELLED = "cancelled"
    MISSED = "missed"


@distinct
class Timer(NamedTuple):
    """A timer or an alarm. Immutable.

    Attributes:
        number: Its number, which is not reused while the daemon runs.
        name: The name that the user gave; empty without one.
        language: The language of the sentence that it rings with (ISO 639-1).
        seconds: The length of a timer; 0 for an alarm.
        alarm: The local time of an alarm, ``YYYY-MM-DD HH:MM``; empty for a timer. A change of the time zone or of
            daylight saving time moves the alarm with the clock on the wall.
        state: The state.
        remaining_seconds: The time left of a paused timer; for a running one, the time left at its last change.
        ends_boot_seconds: When a timer ends, in seconds since the start of the machine (``CLOCK_BOOTTIME``).
        ends_at: When it ends, in seconds since 1970. For a timer this is an estimate, which only a restart of the
            machine needs.
        boot_id: Identifies the start of the machine from which ``ends_boot_seconds`` counts.
        snoozed: Whether an alarm ends at ``ends_boot_seconds`` instead of its local time. This is so after a snooze,
            and if the alarm was set between the two occurrences of its time at the end of daylight saving time.
    """

    number: int
    name: str = ""
    language: str = "en"
    seconds: float = 0.0
    alarm: str = ""
    state: TimerState = TimerState.RUNNING
    remaining_seconds: float = 0.0
    ends_boot_seconds: float = 0.0
    ends_at: float = 0.0
    boot_id: str = ""
    snoozed: bool = False

    @property
    def is_alarm(self) -> bool:
        return self.alarm != ""


Changes = tuple[tuple[Timer, TimerChange], ...]
"""Timers, and what has happened to each."""


class Clock:
    """The clocks of the machine. Immutable.

    Args:
        boot_seconds: Returns the seconds since the start of the machine, including suspends.
        now: Returns the seconds since 1970.
        is_set: Returns whether the time of day can be trusted.
        boot_id: Identifies the start of the machine.
    """

    def __init__(
        self,
        boot_seconds: Callable[[], float],
        now: Callable[[], float] = time.time,
        is_set: Callable[[], bool] = lambda: True,
        boot_id: str = "",
    ) -> None:
        self.boot_seconds, self.now, self.is_set, self.boot_id = boot_seconds, now, is_set, boot_id


class Timers:
    """The timers of one daemon. Thread-safe.

    Args:
        clock: The clocks.
        changed: Called after each change with all timers, in their order, and with those that have changed. It must not
            block.
    """

    def __init__(
        self, clock: Clock, changed: Callable[[tuple[Timer, ...], Changes], None] = lambda timers, changes: None
    ) -> None:
        self._clock, self._changed = clock, changed
        self._lock = threading.RLock()
        self._timers: dict[int, Timer] = {}
        self._last_number = 0

    @property
    def all(self) -> tuple[Timer, ...]:
        """All timers, the next one first."""
        with self._lock:
            return tuple(sorted(self._timers.values(), key=self.remaining))

    def pass_on(self, take: Callable[[tuple[Timer, ...]], None]) -> None:
        """Call ``take`` with all timers. No thread changes them during the call: the last call has the last state."""
        with self._lock:
            take(self.all)

    def remaining(self, timer: Timer) -> float:
        """Return the seconds until a timer rings; negative after its end."""
        if timer.state is TimerState.PAUSED:
            return timer.remaining_seconds
        if timer.is_alarm and not timer.snoozed:
            return local_seconds(timer.alarm) - self._clock.now()
        return timer.ends_boot_seconds - self._clock.boot_seconds()

    # --- requests

    def start(self, seconds: float, name: str = "", language: str = "en") -> Timer:
        """Start a timer.

        Raises:
            TimerError: It is too long, too short, or there are too many.
        """
        if seconds < 1.0:
            raise TimerError("short")
        if seconds > MAX_TIMER_SECONDS:
            raise TimerError("long")
        with self._lock:
            timer = self._ending(self._add(Timer(0, name[:MAX_NAME_CHARACTERS], language, seconds)), seconds)
        self._publish((timer, TimerChange.STARTED))
        return timer

    def set_alarm(self, alarm: str, name: str = "", language: str = "en") -> Timer:
        """Set an alarm at a local time, ``YYYY-MM-DD HH:MM``.

        Raises:
            TimerError: There are too many.
        """
        with self._lock:
            ends_at = local_seconds(alarm)
            timer = self._add(Timer(0, name[:MAX_NAME_CHARACTERS], language, alarm=alarm, ends_at=ends_at))
            now = self._clock.now()
            if ends_at <= now < (second := local_seconds(alarm, fold=1)):
                timer = self._ending(timer._replace(snoozed=True), second - now)
        self._publish((timer, TimerChange.STARTED))
        return timer

    def cancel(self, numbers: tuple[int, ...]) -> bool:
        """Remove timers, ringing or not; return whether at least one of them existed."""
        with self._lock:
            removed = [self._timers.pop(number) for number in numbers if number in self._timers]
        if removed:
            self._publish(*((timer, _end_of(timer)) for timer in removed))
        return bool(removed)

    def extend(self, number: int, seconds: float) -> Timer | None:
        """Add seconds to a timer; a negative number shortens it.

        Returns:
            The timer; ``None`` if it does not exist or is an alarm.
        """
        with self._lock:
            timer = self._timers.get(number)
            if timer is None or timer.is_alarm:
                return None
            # A timer that rings has no time left, however long it has been ringing.
            remaining = min(max(1.0, max(0.0, self.remaining(timer)) + seconds), MAX_TIMER_SECONDS)
            if timer.state is TimerState.PAUSED:
                timer = self._keep(timer._replace(remaining_seconds=remaining))
            else:
                timer = self._ending(timer, remaining)
        self._publish((timer, TimerChange.CHANGED))
        return timer

    def pause(self, number: int) -> Timer | None:
        """Pause a running timer; return the timer, or ``None`` if it does not exist, does not run or is an alarm."""
        with self._lock:
            timer = self._timers.get(number)
            if timer is None or timer.is_alarm or timer.state is not TimerState.RUNNING:
                return None
            remaining = max(0.0, self.remaining(timer))
            timer = self._keep(timer._replace(state=TimerState.PAUSED, remaining_seconds=remaining))
        self._publish((timer, TimerChange.CHANGED))
        return timer

    def resume(self, number: int) -> Timer | None:
        """Continue a paused timer; return the timer, or ``None`` if it does not exist or is not paused."""
        with self._lock:
            timer = self._timers.get(number)
            if timer is None or timer.state is not TimerState.PAUSED:
                return None
            timer = self._ending(timer, timer.remaining_seconds)
        self._publish((timer, TimerChange.CHANGED))
        return timer

    def stop_ringing(self) -> tuple[Timer, ...]:
        """Remove the timers that ring; return them."""
        with self._lock:
            ringing = tuple(each for each in self._timers.values() if each.state is TimerState.RINGING)
            for timer in ringing:
                del self._timers[timer.number]
        if ringing:
            self._publish(*((timer, TimerChange.ENDED) for timer in ringing))
        return ringing

    def snooze(self, seconds: float) -> tuple[Timer, ...]:
        """Let the ringing timers ring again after some seconds; return them."""
        with self._lock:
            ringing = [each for each in self._timers.values() if each.state is TimerState.RINGING]
            snoozed = tuple(self._ending(timer._replace(snoozed=True), seconds) for timer in ringing)
        if snoozed:
            self._publish(*((timer, TimerChange.CHANGED) for timer in snoozed))
        return snoozed

    # --- the daemon

    def seconds_to_next(self) -> float | None:
        """Return the seconds until the next timer ends; ``None`` if none runs."""
        with self._lock:
            return min((self.remaining(each) for each in self._timers.values() if self._runs(each)), default=None)

    def take_due(self) -> list[Timer]:
        """Return the timers that have ended. They ring from now on; missed timers are removed instead."""
        due: list[Timer] = []
        with self._lock:
            for timer in [each for each in self._timers.values() if self._runs(each) and self.remaining(each) <= 0]:
                if self.is_missed(timer):
                    due.append(self._timers.pop(timer.number))
                else:
                    due.append(self._keep(timer._replace(state=TimerState.RINGING)))
        if due:
            states = {TimerState.RINGING: TimerChange.RINGING}
            self._publish(*((timer, states.get(timer.state, TimerChange.MISSED)) for timer in due))
        return due

    def refresh(self) -> None:
        """Compute ``ends_at`` of all running timers again, because the clock or the time zone has changed."""
        with self._lock:
            for timer in [each for each in self._timers.values() if each.state is TimerState.RUNNING]:
                self._keep(timer._replace(ends_at=self._clock.now() + self.remaining(timer)))
        if self._timers:
            self._publish()

    def is_missed(self, timer: Timer) -> bool:
        """Return whether a timer ended too long ago to ring."""
        return self.remaining(timer) < -MISSED_SECONDS

    def restore(self, timers: tuple[Timer, ...]) -> None:
        """Add the timers from before a restart of the daemon or of the machine.

        If only the daemon has restarted, ``ends_boot_seconds`` is exact. If the machine has restarted, the time of day
        determines the remaining time. The remaining time at the last change is its upper limit, because the clock may
        not be set yet.
        """
        with self._lock:
            for timer in timers:
                if timer.state is TimerState.RINGING:
                    timer = timer._replace(state=TimerState.RUNNING)
                has_end = timer.state is TimerState.RUNNING and (timer.snoozed or not timer.is_alarm)
                if has_end and timer.boot_id != self._clock.boot_id:
                    left = min(timer.ends_at - self._clock.now(), timer.remaining_seconds)
                    timer = self._with_end(timer, left)
                if timer.number in self._timers:  # a timer with this number was set before the file was read
                    timer = timer._replace(number=self._last_number + 1)
                self._last_number = max(self._last_number, timer.number)
                self._timers[timer.number] = timer
        if timers:
            self._publish()

    # --- helpers, under the lock

    def _runs(self, timer: Timer) -> bool:
        if timer.state is not TimerState.RUNNING:
            return False
        return not timer.is_alarm or timer.snoozed or self._clock.is_set()

    def _add(self, timer: Timer) -> Timer:
        if len(self._timers) >= MAX_TIMERS:
            raise TimerError("many")
        self._last_number += 1
        return self._keep(timer._replace(number=self._last_number, boot_id=self._clock.boot_id))

    def _ending(self, timer: Timer, seconds: float) -> Timer:
        """Let a timer end in some seconds from now."""
        return self._keep(self._with_end(timer._replace(state=TimerState.RUNNING), seconds))

    def _with_end(self, timer: Timer, seconds: float) -> Timer:
        return timer._replace(
            remaining_seconds=seconds,
            ends_boot_seconds=self._clock.boot_seconds() + seconds,
            ends_at=self._clock.now() + seconds,
            boot_id=self._clock.boot_id,
        )

    def _keep(self, timer: Timer) -> Timer:
        self._timers[timer.number] = timer
        return timer

    def _publish(self, *changes: tuple[Timer, TimerChange]) -> None:
        # Under the lock, so that the last call has the last state, whichever thread makes it.
        with self._lock:
            self._changed(self.all, changes)


def _end_of(timer: Timer) -> TimerChange:
    return TimerChange.ENDED if timer.state is TimerState.RINGING else TimerChange.CANCELLED


def local_seconds(alarm: str, *, fold: int = 0) -> float:
    """Return the seconds since 1970 of a local time ``YYYY-MM-DD HH:MM``.

    If the change to daylight saving time skips the time, ``fold=0`` moves the time later by the length of the change.
    If the time occurs twice, ``fold=0`` selects the first occurrence and ``fold=1`` the second.
    """
    from datetime import datetime  # most daemons have no alarm

    time.tzset()  # reads /etc/localtime again if it has changed
    return datetime.strptime(alarm, ALARM_FORMAT).replace(fold=fold).timestamp()

"""Announces the timers that have ended, and saves all timers across restarts."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

from agent.daemon.timer_store import TimerStore
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import (
    Announce,
    Cancel,
    Event,
    Hush,
    PlaybackStarted,
    StopWord,
    TimersChanged,
    TimersRestored,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.timers import Changes, Clock, Timer, Timers, TimerState
from agent.pipeline.utterance import TIMER, Delivery, Urgency, Utterance
from agent.system.threads import Deadline

RING_SECONDS = 60.0
"""How long a timer repeats its sentence without an answer, from the first playback."""
PAUSE_SECONDS = 4.0
"""Pause between two sentences of a ringing timer, in which the user can say "stop" or "snooze"."""
CLOCK_STEP_SECONDS = 1.0
"""Change of the time of day above which the times of day of all ends are computed and saved again."""
CHIME = "alert"
_TIMESYNC = "run/systemd/timesync"
_HARDWARE_CLOCK = "sys/class/rtc/rtc0"


class _Ring:
    """A ringing timer. Not thread-safe; owned by the main thread."""

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.limit: Deadline | None = None  # set at the first playback: the sentence may wait behind a text
        self.utterance = ""  # the id of the last sentence
        self.next_at = 0.0  # monotonic seconds; infinite while a sentence waits or is spoken


class TimerBell:
    """Announces the timers that have ended until the user answers, and saves every change.

    Not thread-safe; owned by the main thread. ``control`` is thread-safe.

    Args:
        path: The file of the timers; with ``None`` a restart loses them.
        report: Receives events.
        volume: Returns the playback volume in percent.
        language: Returns the language of the sentences (ISO 639-1).
        clock: The clocks.
        ring_seconds: As ``RING_SECONDS``.
    """

    def __init__(
        self,
        path: Path | None,
        report: Callable[[Event], None],
        volume: Callable[[], int],
        language: Callable[[], str] = lambda: "en",
        clock: Clock | None = None,
        *,
        ring_seconds: float = RING_SECONDS,
    ) -> None:
        self._report, self._run, self._ring_seconds = report, "", ring_seconds
        self._clock = clock or machine_clock()
        self._offset, self._zone_seconds = self._clock.now() - self._clock.boot_seconds(), time.localtime().tm_gmtoff
        self._store = TimerStore(path)
        self._timers = Timers(self._clock, self._changed)
        self._rings: dict[int, _Ring] = {}
        self._counter = itertools.count(1)
        self.control = DeviceControl(report, self._timers, self._store.save, volume, self._clock.is_set, language)

    def start(self, run: str, deadline: Deadline) -> None:
        """Read the timers from before the restart.

        Args:
            run: Prefix of the ids of the utterances; unique to this process.
            deadline: Limit of the wait for the timers; they may arrive later.
        """
        self._run = run
        self._store.start(self._report, deadline)

    def update(self, event: Event) -> None:
        """Record an event before the conversation handles it."""
        match event:
            case TimersRestored(timers):
                self._timers.restore(timers)
            case Hush() | StopWord():
                self._timers.stop_ringing()
                self.control.hushes += 1
            case Cancel(utterance) if (ring := self._find(utterance)) is not None:
                self._timers.cancel((ring.timer.number,))
            case PlaybackStarted(utterance) if (ring := self._find(utterance)) is not None:
                self._limit(ring)
            case UtterancePlayed(utterance) | UtteranceFailed(utterance) | UtteranceCancelled(utterance):
                self._continue(utterance)

    def next_timeout(self, limit_seconds: float) -> float:
        """Return the seconds until ``due`` returns an event, at most the limit."""
        times = [ring.next_at - time.monotonic() for ring in self._rings.values()]
        if (next_seconds := self._timers.seconds_to_next()) is not None:
            times.append(next_seconds)
        return max(0.0, min([limit_seconds, *times]))

    def due(self) -> list[Event]:
        """Return the announcements of the timers that ring or ring again now, and the cancellations of ended rings."""
        offset = self._clock.now() - self._clock.boot_seconds()
        zone_seconds = time.localtime().tm_gmtoff
        if abs(offset - self._offset) > CLOCK_STEP_SECONDS or zone_seconds != self._zone_seconds:
            self._offset, self._zone_seconds = offset, zone_seconds
            self._timers.refresh()
        events = self._end_rings()
        for timer in self._timers.take_due():
            is_missed = timer.state is not TimerState.RINGING
            if is_missed:
                events.append(self._announce(timer, is_missed=True))
            else:
                self._rings[timer.number] = _Ring(timer)
        now = time.monotonic()
        for ring in self._rings.values():
            if ring.limit is not None and ring.limit.is_expired and ring.next_at != math.inf:
                self._timers.cancel((ring.timer.number,))
            elif ring.next_at <= now:
                ring.next_at = math.inf
                announce = self._announce(ring.timer)
                ring.utterance = announce.utterance.id
                events.append(announce)
        return events

    def _end_rings(self) -> list[Event]:
        """Remove the rings whose timer was cancelled, stopped or snoozed; return the cancellations of their sentences.

        Without the cancellation, a sentence that waits behind another text would be spoken later. The cancellation of a
        sentence that has ended has no effect.
        """
        if not self._rings:
            return []
        ringing = {each.number for each in self._timers.all if each.state is TimerState.RINGING}
        ended = [ring for number, ring in self._rings.items() if number not in ringing]
        self._rings = {number: ring for number, ring in self._rings.items() if number in ringing}
        return [Cancel(ring.utterance, "the end of the timer") for ring in ended if ring.utterance]

    def close(self, deadline: Deadline) -> None:
        """Write the pending changes of the store."""
        self._store.close(deadline)

    def _announce(self, timer: Timer, *, is_missed: bool = False) -> Announce:
        from agent.pipeline.responders.intents.commands import ring_text
        from agent.pipeline.responders.intents.language import find_language

        text = ring_text(find_language(timer.language), timer, is_missed=is_missed)
        urgency = Urgency.MESSAGE if is_missed else Urgency.IMPORTANT
        delivery = Delivery(chime=CHIME)
        name = f"{self._run}-{TIMER}-{timer.number}-{next(self._counter)}"
        return Announce(Utterance(name, text, source=TIMER, urgency=urgency, delivery=delivery))

    def _find(self, utterance: str) -> _Ring | None:
        return next((ring for ring in self._rings.values() if ring.utterance == utterance), None)

    def _continue(self, utterance: str) -> None:
        """Schedule the next sentence of a ringing timer after a pause."""
        if (ring := self._find(utterance)) is not None:
            self._limit(ring)  # without a speaker, playback never starts
            ring.next_at = time.monotonic() + PAUSE_SECONDS

    def _limit(self, ring: _Ring) -> None:
        ring.limit = ring.limit or Deadline(self._ring_seconds)

    def _changed(self, timers: tuple[Timer, ...], changes: Changes) -> None:
        self._store.save(timers)
        self._report(TimersChanged(timers, changes))


def machine_clock() -> Clock:
    """Return the clocks of this machine."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot_id = ""
    return Clock(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.time, is_clock_set, boot_id)


def is_clock_set(root: Path = Path("/")) -> bool:
    """Return whether the time of day can be trusted.

    That is so if the machine has a hardware clock, or if systemd-timesyncd has set the time or is not used. A Raspberry
    Pi before model 5 has no hardware clock: it starts with the time at which it was turned off.
    """
    service = root / _TIMESYNC
    return (root / _HARDWARE_CLOCK).exists() or (service / "synchronized").exists() or not service.exists()

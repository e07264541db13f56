"""The operations on the device that a spoken request can trigger."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agent.pipeline.events import Event
from agent.pipeline.timers import Timer, Timers

SAVE_SECONDS = 1.0
"""Longest time that a reply waits until the timer is on the disk. The timer runs in any case."""


class DeviceControl:
    """The interface of the device for responders. Thread-safe.

    Args:
        report: Receives requests as events.
        timers: The timers.
        save: Writes all timers to the disk; then calls the passed function with whether that succeeded.
        volume: Returns the playback volume in percent.
        is_clock_set: Returns whether the time of day can be trusted.
        language: Returns the language of a timer that is not set by speech (ISO 639-1).

    Attributes:
        hushes: How often a hush or a stop word has silenced the device; written by the main thread.
    """

    def __init__(
        self,
        report: Callable[[Event], None],
        timers: Timers,
        save: Callable[[tuple[Timer, ...], Callable[[bool], None]], None],
        volume: Callable[[], int],
        is_clock_set: Callable[[], bool] = lambda: True,
        language: Callable[[], str] = lambda: "en",
    ) -> None:
        self.report, self.timers, self.volume, self.language = report, timers, volume, language
        self.is_clock_set = is_clock_set
        self.hushes = 0
        self._save = save

    def save_timers(self) -> None:
        """Save the timers; wait until they survive a loss of power, at most ``SAVE_SECONDS``."""
        done = threading.Event()
        self.save_timers_then(lambda durable: done.set())
        done.wait(SAVE_SECONDS)

    def save_timers_then(self, done: Callable[[bool], None]) -> None:
        """Save the timers; then call ``done``, in any thread, with whether they survive a loss of power."""
        self.timers.pass_on(lambda timers: self._save(timers, done))

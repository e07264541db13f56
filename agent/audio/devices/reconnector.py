"""Reconnection of a sound device: whether to wait for it, when to retry, and the reports of its loss and return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.audio.devices.device import WaitPolicy, wait_for_device
from agent.errors import DeviceError
from agent.system.named_tuple import NamedTuple


class ReconnectTiming(NamedTuple):
    """Timing of the reconnection. Immutable; all values in seconds.

    ``first_retry_seconds``: delay of the first retry after a loss. It is short, because most losses are brief: a
    suspended USB port, a restarted sound server. ``retry_seconds``: delay of every further retry.

    ``io_timeout_seconds``: limit of one read or write. It exceeds the 1.2 s after which ``portaudio`` declares a
    stopped card lost, so only a call that never returns reaches it. ``open_timeout_seconds``: limit of opening,
    draining and closing. Opening queries every card and sound server, and may have to wait for PortAudio's lock until
    the other direction is open; draining takes as long as the buffer of the card.
    """

    first_retry_seconds: float = 0.1
    retry_seconds: float = 1.0
    io_timeout_seconds: float = 2.0
    open_timeout_seconds: float = 10.0


class DeviceReconnector:
    """Tracks the loss and return of one device. Not thread-safe; owned by the thread that owns the device.

    The owner calls ``note_opened`` after it has opened the device, ``note_lost`` with every ``DeviceError``, ``wait``
    before the next attempt, and ``note_working`` when the device has transferred audio.

    Args:
        on_lost: Called once for each loss, with the reason.
        on_back: Called once for each return, with the duration of the loss in seconds.
        wait_policy: Decides whether to wait for a device that has never been open.
        timing: Delays and limits.
    """

    def __init__(
        self,
        on_lost: Callable[[str], None],
        on_back: Callable[[float], None],
        *,
        wait_policy: WaitPolicy = wait_for_device,
        timing: ReconnectTiming | None = None,
    ) -> None:
        self.timing = timing or ReconnectTiming()
        self.stall_timeout = self.timing.io_timeout_seconds
        self._on_lost, self._on_back, self._wait_policy = on_lost, on_back, wait_policy
        self._was_opened = False
        self._lost_at: float | None = None
        self._attempts = 0  # since the device last transferred audio

    @property
    def is_lost(self) -> bool:
        """Whether a loss was reported and the device has not returned since."""
        return self._lost_at is not None

    @property
    def is_present(self) -> bool:
        """Whether the device was opened at least once and is not lost."""
        return self._was_opened and not self.is_lost

    def note_opened(self) -> None:
        """Record that the device was opened: after every later failure the owner waits for its return."""
        self._was_opened = True

    def note_lost(self, error: DeviceError) -> None:
        """Report the loss.

        Raises:
            DeviceError: ``error``, if the device has never been open and the wait policy does not wait for it.
        """
        if not self._was_opened and not self._wait_policy(error):
            raise error
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._on_lost(str(error))

    def note_working(self) -> None:
        """Note that the device transfers audio; report its return if it was lost."""
        # Not reset by opening alone: a device that opens and then fails immediately is retried at the slow rate.
        self._attempts = 0
        if self._lost_at is not None:
            seconds, self._lost_at = time.monotonic() - self._lost_at, None
            self._on_back(seconds)

    def wait(self, cancelled: threading.Event) -> None:
        """Wait for the time of the next attempt; ``cancelled`` ends the wait immediately."""
        cancelled.wait(self.timing.retry_seconds if self._attempts else self.timing.first_retry_seconds)
        self._attempts += 1

    @contextmanager
    def slow_call(self) -> Iterator[None]:
        """Raise ``stall_timeout``, which the watchdog reads, for a call that may take long."""
        before, self.stall_timeout = self.stall_timeout, self.timing.open_timeout_seconds
        try:
            yield
        finally:
            self.stall_timeout = before

"""A sink that outlives its card: opened when there is sound, opened anew when the card is lost, until it is back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from agent.audio.devices.device import Sink, WaitPolicy, wait_for_device
from agent.audio.format import Format
from agent.errors import DeviceError
from agent.pipeline.events import DeviceBack, DeviceLost, Event

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""A card that stands still is given up before that; a write that never returns is seen within three seconds, as a read
is."""

RETRY_SECONDS = 1.0
"""Between two tries to open a card; the first try after a loss comes at once, because most losses are hiccups."""

FIRST_RETRY_SECONDS = 0.1
SLOW_SECONDS = 10.0
"""Opening asks every card and sound server there is, and may have to wait until the microphone has been opened;
draining takes as long as what the card holds."""


class ReconnectingSink:
    """Takes sound as a sink does, and goes on at the first sample that its card did not take when that was lost.

    One thread owns it, as it would own the sink. ``open_sink(format)`` raises ``DeviceError``; after that it is tried
    again, at most once a second. The loss is reported as ``DeviceLost`` and the return as ``DeviceBack``, once each.
    ``gave_up``: set by any thread, it ends every waiting at once.

    ``patience`` judges a device that cannot be opened: until it has been opened once, an error that is not to be waited
    for is raised. ``try_card`` opens the card and gives it back, for ``look``; ``None`` where that makes no sense.
    ``stall_timeout``: how long its owner may at most be busy in it before something is wrong. ``underruns`` is the
    sum of all sinks there were.
    """

    def __init__(
        self,
        open_sink: Callable[[Format], Sink],
        report: Callable[[Event], None],
        cancelled: threading.Event,
        *,
        patience: WaitPolicy = wait_for_device,
        probe: Callable[[], None] | None = None,
    ) -> None:
        self.stall_timeout = PATIENCE_SECONDS
        self._open_sink, self._report, self._gave_up, self._patience = open_sink, report, cancelled, patience
        self._try_card, self._look_at = probe, 0.0
        self._sink: Sink | None = None
        self._opened_once = False
        self._lost_at: float | None = None
        self._tries = 0  # since a card last took sound
        self._format: Format | None = None
        self._untaken = bytearray()  # handed over by the owner, not yet taken by a card
        self._trimmed = 0  # frames taken by this sink that are no longer in there
        self._underruns = self._told = 0

    @property
    def underruns(self) -> int:
        return self._underruns + (self._sink.underruns if self._sink is not None else 0)

    def look(self) -> None:
        """To be called while there is nothing to play. Tells whether there is a card at all, at the start, and when one
        that was lost is back, so that nobody learns of it only from what is not heard. Tries once a second at most."""
        known = self._opened_once and self._lost_at is None
        if self._try_card is None or self._sink is not None or known or time.monotonic() < self._look_at:
            return
        self.stall_timeout = SLOW_SECONDS
        try:
            self._try_card()
        except DeviceError as error:
            if not self._opened_once and not self._patience(error):
                raise
            self._lose(error)
        else:
            self._opened_once = True
            self._found()
        finally:
            self.stall_timeout = PATIENCE_SECONDS
            self._look_at = time.monotonic() + RETRY_SECONDS

    def write(self, pcm: bytes, format: Format, still_wanted: Callable[[], bool]) -> bool:
        """Takes whole frames at the card's pace, however often it has to be opened anew; tells whether it took them.

        ``still_wanted`` is asked before every try. What belongs to one ``format`` is drained or dropped before the
        next. What was refused (``False``) is forgotten.
        """
        if format != self._format:
            self._untaken.clear()
            self._format = format
        new = len(self._untaken)
        self._untaken += pcm
        while not self._gave_up.is_set() and still_wanted():
            try:
                if self._sink is not None and (self._sink.format == format or self._sink.change_format(format)):
                    self._sink.write(bytes(self._untaken[new:]))
                else:
                    self._open(format).write(bytes(self._untaken))
            except DeviceError as error:
                if not self._opened_once and not self._patience(error):
                    raise
                self._lose(error)
                self._gave_up.wait(RETRY_SECONDS if self._tries else FIRST_RETRY_SECONDS)
                self._tries += 1
                continue
            self._trim()
            self._found()
            return True
        self._untaken.clear()
        return False

    @property
    def queued_seconds(self) -> float:
        """How much of what was taken is still to be heard; nothing, where there is no card."""
        try:
            return self._sink.queued_seconds if self._sink is not None else 0.0
        except DeviceError as error:
            self._lose(error)
            return 0.0

    @property
    def ready_in_seconds(self) -> float:
        """How long ``write`` would wait for the card; 0.0 where it would not, or has to find one first."""
        try:
            return self._sink.ready_in_seconds if self._sink is not None else 0.0
        except DeviceError as error:
            self._lose(error)
            return 0.0

    def drain_nowait(self) -> float:
        """Drains without waiting: after how many seconds to call it again, 0.0 when all has been heard, or the card was
        lost, as ``drain``."""
        try:
            rest = self._sink.drain_nowait() if self._sink is not None else 0.0
        except DeviceError as error:
            self._lose(error)
            rest = 0.0
        if not rest:
            self._forget()
        return rest

    def drain(self) -> None:
        """Returns when all has been heard to its last sample, or the card was lost in the midst of that: it is not
        opened anew then, for all that was missing is what a filter held, a few milliseconds."""
        try:
            if self._sink is not None:
                self.stall_timeout = SLOW_SECONDS
                self._sink.drain()
        except DeviceError as error:
            self._lose(error)
        finally:
            self.stall_timeout = PATIENCE_SECONDS
        self._forget()

    def drop(self) -> None:
        """Silent at once; what has not been heard never will be."""
        self._untaken.clear()
        if self._sink is not None:
            try:
                self._sink.drop()
            except DeviceError as error:
                self._lose(error)
        self._forget()

    def close(self) -> None:
        """Gives the card back; twice is safe, and the next ``write`` opens it again."""
        sink, self._sink = self._sink, None
        self._trimmed = 0
        if sink is not None:
            self._underruns += sink.underruns
            self.stall_timeout = SLOW_SECONDS
            sink.close()
            self.stall_timeout = PATIENCE_SECONDS

    def _open(self, format: Format) -> Sink:
        self.close()
        self.stall_timeout = SLOW_SECONDS
        try:
            self._sink = self._open_sink(format)
        finally:
            self.stall_timeout = PATIENCE_SECONDS
        self._opened_once = True
        return self._sink

    def _found(self) -> None:
        self._tries = 0
        if self._lost_at is not None:
            self._report(DeviceBack("speaker", time.monotonic() - self._lost_at))
            self._lost_at = None

    def _lose(self, error: DeviceError) -> None:
        self._trim()
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._report(DeviceLost("speaker", str(error)))
        self.close()

    def _trim(self) -> None:
        """Forgets what the card has taken."""
        if self._sink is not None:
            del self._untaken[: (self._sink.accepted_frames - self._trimmed) * self._sink.format.frame_bytes]
            self._trimmed = self._sink.accepted_frames

    def _forget(self) -> None:
        self._untaken.clear()
        self._trimmed = 0
        if (fresh := self.underruns - self._told) > 0:
            self._told += fresh
            log.warning("the card ran dry %d times: the machine is busy, or speaker.buffer_seconds is too short", fresh)

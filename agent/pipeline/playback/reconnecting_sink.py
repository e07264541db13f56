"""A sink that reopens its sound card after a loss and continues at the exact sample."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from agent.audio.devices.device import Sink, WaitPolicy, wait_for_device
from agent.audio.devices.reconnector import DeviceReconnector, ReconnectTiming
from agent.audio.format import Format
from agent.errors import DeviceError
from agent.pipeline.events import DeviceBack, DeviceLost, Event

log = logging.getLogger(__name__)


class ReconnectingSink:
    """A sink that continues after the loss of its card, at the first frame that the lost card had not accepted.

    Not thread-safe; owned by the speaker thread. The loss is reported as ``DeviceLost``, the return as ``DeviceBack``,
    once each.

    Args:
        open_sink: Opens the card for a format; raises ``DeviceError``.
        report: Receives the events.
        cancelled: Ends every wait immediately when any thread sets it.
        wait_policy: Decides whether to wait for a card that has never been open. If not, ``check_presence``,
            ``ensure_open`` and ``write`` raise its ``DeviceError``.
        probe: Opens and closes the card, for ``check_presence``; ``None`` if the device is not a card.
        timing: Delays and limits of the reconnection.
    """

    def __init__(
        self,
        open_sink: Callable[[Format], Sink],
        report: Callable[[Event], None],
        cancelled: threading.Event,
        *,
        wait_policy: WaitPolicy = wait_for_device,
        probe: Callable[[], None] | None = None,
        timing: ReconnectTiming | None = None,
    ) -> None:
        self._device = DeviceReconnector(
            lambda reason: report(DeviceLost("speaker", reason)),
            lambda seconds: report(DeviceBack("speaker", seconds)),
            wait_policy=wait_policy,
            timing=timing,
        )
        self._open_sink, self._cancelled, self._probe = open_sink, cancelled, probe
        self._next_probe_at = 0.0
        self._sink: Sink | None = None
        self._format: Format | None = None
        self._pending = bytearray()  # written by the owner, not yet accepted by a card
        self._accepted_frames = 0  # accepted by the current sink and removed from _pending
        self._past_underruns = 0
        self.logged_underruns = 0  # card underruns until the end of the last utterance; other threads may read it

    @property
    def stall_timeout(self) -> float:
        """The time in seconds that the current call may take before it counts as stuck."""
        return self._device.stall_timeout

    @property
    def underruns(self) -> int:
        """Underruns of all cards since construction."""
        return self._past_underruns + (self._sink.underruns if self._sink is not None else 0)

    def check_presence(self) -> None:
        """Check the presence of the card while there is no audio to play, at most once per ``retry_seconds``.

        So a card that is missing at the start, and the return of a lost card, are reported before the next utterance.
        """
        if self._probe is None or self._sink is not None or self._device.is_present:
            return
        if time.monotonic() < self._next_probe_at:
            return
        try:
            with self._device.slow_call():
                self._probe()
        except DeviceError as error:
            self._device.note_lost(error)
        else:
            self._device.note_opened()
            self._device.note_working()
        finally:
            self._next_probe_at = time.monotonic() + self._device.timing.retry_seconds

    def ensure_open(self, format: Format, is_wanted: Callable[[], bool]) -> bool:
        """Open the card before the first ``write`` of an utterance, and retry as often as necessary.

        It does not test a card that is already open: ``write`` detects the loss of such a card.

        Args:
            format: Rate and channels of the audio that follows.
            is_wanted: Called before every attempt; ``False`` ends the call.

        Returns:
            Whether the card is open.
        """
        while not self._cancelled.is_set() and is_wanted():
            try:
                if not self._is_open_for(format):
                    self._open(format)
            except DeviceError as error:
                self._lose(error)
                self._device.wait(self._cancelled)
                continue
            return True
        return False

    def write(self, pcm: bytes, format: Format, is_wanted: Callable[[], bool]) -> bool:
        """Write whole frames at the pace of the card, and reopen the card as often as necessary.

        The caller drains or drops the audio of one format before it writes audio of another format.

        Args:
            pcm: Whole frames of s16le.
            format: Rate and channels of ``pcm``.
            is_wanted: Called before every attempt; ``False`` ends the call.

        Returns:
            Whether the card accepted the audio. If not, all pending audio is dropped.
        """
        if format is not self._format and format != self._format:
            self._pending.clear()
            self._format = format
        start = len(self._pending)
        self._pending += pcm
        while not self._cancelled.is_set() and is_wanted():
            try:
                if self._sink is not None and self._is_open_for(format):
                    self._sink.write(bytes(self._pending[start:]) if start else pcm)
                else:
                    self._open(format).write(bytes(self._pending))
            except DeviceError as error:
                self._lose(error)
                self._device.wait(self._cancelled)
                continue
            self._remove_accepted()
            self._device.note_working()
            return True
        self._pending.clear()
        return False

    @property
    def empty_at(self) -> float:
        """The monotonic time at which the accepted audio will have been played; the current time without a card."""
        try:
            return self._sink.empty_at if self._sink is not None else time.monotonic()
        except DeviceError as error:
            self._lose(error)
            return time.monotonic()

    @property
    def queued_seconds(self) -> float:
        """Duration of the accepted audio that is not yet played; 0.0 without a card."""
        return max(0.0, self.empty_at - time.monotonic())

    @property
    def ready_in_seconds(self) -> float:
        """Time that ``write`` would wait for room in the card; 0.0 without a card."""
        try:
            return self._sink.ready_in_seconds if self._sink is not None else 0.0
        except DeviceError as error:
            self._lose(error)
            return 0.0

    def drain_nowait(self) -> float:
        """Drain without blocking.

        Returns:
            Seconds until the next call; 0.0 when everything was played or the card was lost (see ``drain``).
        """
        try:
            rest = self._sink.drain_nowait() if self._sink is not None else 0.0
        except DeviceError as error:
            self._lose(error)
            rest = 0.0
        if not rest:
            self._end_utterance()
        return rest

    def drain(self) -> None:
        """Block until everything was played or the card is lost.

        A card that is lost during the drain is not reopened, because it had accepted all audio except the few
        milliseconds in the filter of the resampler.
        """
        try:
            if self._sink is not None:
                with self._device.slow_call():
                    self._sink.drain()
        except DeviceError as error:
            self._lose(error)
        self._end_utterance()

    def drop(self) -> None:
        """Stop playback immediately and drop all audio that was not played."""
        if self._sink is not None:
            try:
                self._sink.drop()
            except DeviceError as error:
                self._lose(error)
        self._end_utterance()

    def close(self) -> None:
        """Close the card. Idempotent; the next ``write`` reopens it."""
        sink, self._sink = self._sink, None
        self._accepted_frames = 0
        if sink is not None:
            self._past_underruns += sink.underruns
            with self._device.slow_call():
                sink.close()

    def _is_open_for(self, format: Format) -> bool:
        return self._sink is not None and (self._sink.format == format or self._sink.change_format(format))

    def _open(self, format: Format) -> Sink:
        self.close()
        with self._device.slow_call():
            self._sink = self._open_sink(format)
        self._device.note_opened()
        return self._sink

    def _lose(self, error: DeviceError) -> None:
        self._remove_accepted()
        self._device.note_lost(error)
        self.close()

    def _remove_accepted(self) -> None:
        if self._sink is not None:
            new_frames = self._sink.accepted_frames - self._accepted_frames
            del self._pending[: new_frames * self._sink.format.frame_bytes]
            self._accepted_frames = self._sink.accepted_frames

    def _end_utterance(self) -> None:
        self._pending.clear()
        self._accepted_frames = 0
        if (count := self.underruns - self.logged_underruns) > 0:
            self.logged_underruns += count
            log.warning(
                "speaker: card underruns, count=%d. The machine is busy, or speaker.buffer_seconds is too short",
                count,
            )

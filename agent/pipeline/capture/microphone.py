"""The stage that owns the microphone and puts its frames into the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.audio.devices.device import Source, WaitPolicy, wait_for_device
from agent.audio.devices.reconnector import DeviceReconnector, ReconnectTiming
from agent.audio.format import SPEECH
from agent.errors import DeviceError
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import MICROPHONE_OVERRUN, DeviceBack, DeviceLost, Event, Gap
from agent.pipeline.settings import MAX_PAUSE_SECONDS
from agent.pipeline.stage import Stage

PERIOD_SECONDS = 0.1

MIN_GAP_SECONDS = 0.005
"""A shorter gap is within the error of the clock readings."""

SILENT_FRAME_SECONDS = 0.1
MUTE_SILENCE_SECONDS = MAX_PAUSE_SECONDS + 1.0
"""Length of the silence that is sent at the start of a mute. It is longer than every pause that ends a segment, because
detectors report silence late."""


class Microphone(Stage):
    """Reads the source and puts its frames into the queue until it is stopped; then it closes the queue.

    The stage opens, reads and closes the source itself. A lost source is opened again after a short delay, then once a
    second. The audio between the last frame before the loss and the first frame after it is reported as a ``Gap``.
    Overruns of the card are also reported as a ``Gap``. While the microphone is muted, the source is closed and no gap
    is reported. ``mute``, ``unmute``, ``reset_after_suspend``, ``stop``, ``abort`` and ``latest`` are thread-safe;
    everything else is owned by the microphone thread.

    Args:
        frames: receives the frames, 16 kHz mono s16le.
        open_source: opens the device.
        report: receives the events, in the microphone thread.
        frame_seconds: length of one read.
        wait_policy: decides whether to wait for a device that has never been open. If not, its ``DeviceError`` ends the
            thread.
        timing: limits and delays of the reconnection.
        captured: receives the number of samples that were put into the queue so far, and the monotonic time at which
            the last of them was recorded.
    """

    def __init__(
        self,
        frames: FrameQueue,
        open_source: Callable[[], Source],
        report: Callable[[Event], None],
        *,
        frame_seconds: float = PERIOD_SECONDS,
        wait_policy: WaitPolicy = wait_for_device,
        timing: ReconnectTiming | None = None,
        captured: Callable[[int, float], None] | None = None,
    ) -> None:
        timing = timing or ReconnectTiming()
        # A read may wait for a whole frame before the loss of a card is detected. So if a frame is longer than a
        # period, the timeout of a read grows by the difference.
        io_timeout = timing.io_timeout_seconds + max(0.0, frame_seconds - PERIOD_SECONDS)
        self._device = DeviceReconnector(
            lambda reason: report(DeviceLost("microphone", reason)),
            lambda seconds: report(DeviceBack("microphone", seconds)),
            wait_policy=wait_policy,
            timing=timing._replace(io_timeout_seconds=io_timeout),
        )
        super().__init__("microphone", report)
        self._frames, self._open_source = frames, open_source
        self._captured = captured
        self._stopped = threading.Event()
        self._unmuted = threading.Event()
        self._unmuted.set()
        self.latest: tuple[float, bytes] = (0.0, b"")  # end time of the last frame, and the frame; for level meters
        self._opened_at: float | None = None  # monotonic time at which the first frame started
        self._recorded_until = 0.0
        self._outdated_reason: str | None = None  # why the frame that is being read is discarded

    @property
    def stall_timeout(self) -> float:  # type: ignore[override]
        """The time in seconds that the current call may take before it counts as stuck."""
        return self._device.stall_timeout

    def mute(self) -> None:
        """Close the source; idempotent, also before the start."""
        self._unmuted.clear()

    def unmute(self) -> None:
        """Open the source again; idempotent."""
        if not self._stopped.is_set():
            self._unmuted.set()

    def reset_after_suspend(self, reason: str) -> None:
        """Discard the frame that is being read and report it as a gap, because it is from before the suspend."""
        self._outdated_reason = reason

    def stop(self) -> None:
        """End after the current frame."""
        self._stopped.set()
        self._unmuted.set()

    def abort(self) -> None:
        """End after the current frame and discard the queued frames."""
        self.stop()
        self._frames.clear()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                if not self._unmuted.is_set():
                    if self._device.is_lost:
                        self._report_absence(time.monotonic())
                    self._send_silence()
                    self._recorded_until = time.monotonic()  # a mute is not a gap
                    continue
                try:
                    self._record()
                except DeviceError as error:
                    self._device.note_lost(error)
                    self.heartbeat()
                    self._device.wait(self._stopped)
        finally:
            self._frames.close()

    def _record(self) -> None:
        """Open the source and read it until it is lost, muted or stopped."""
        source = self._open()
        self._outdated_reason = None  # a suspend before this moment affects no frame
        try:
            lost_samples = 0
            while not self._stopped.is_set() and self._unmuted.is_set():
                frame = source.read()
                self.heartbeat()
                if self._opened_at is None or self._device.is_lost:
                    self._handle_first_frame(SPEECH.seconds_of(len(frame)))
                outdated_reason, self._outdated_reason = self._outdated_reason, None
                if outdated_reason is None:
                    self._frames.put(frame)
                    if self._captured is not None:
                        self._captured(self._frames.total_samples, source.captured_at)
                else:
                    start = self._since_opened(self._recorded_until)
                    self.report(Gap(start, SPEECH.seconds_of(len(frame)), outdated_reason))
                self._recorded_until = time.monotonic()
                self.latest = (self._recorded_until, frame)
                if source.lost_samples > lost_samples:
                    seconds = SPEECH.seconds_of((source.lost_samples - lost_samples) * SPEECH.frame_bytes)
                    lost_samples = source.lost_samples
                    start = self._since_opened(self._recorded_until) - seconds
                    self.report(Gap(start, seconds, MICROPHONE_OVERRUN))
        finally:
            with self._device.slow_call():
                source.close()

    def _send_silence(self) -> None:
        """Wait until the mute ends; first send silence, so that the endpointer ends an open segment."""
        silence = bytes(SPEECH.bytes_of(SILENT_FRAME_SECONDS))
        for _ in range(round(MUTE_SILENCE_SECONDS / SILENT_FRAME_SECONDS)):
            self.heartbeat()
            self._frames.put(silence)
            if self._unmuted.wait(SILENT_FRAME_SECONDS):
                return
        while not self._unmuted.wait(1.0):
            self.heartbeat()

    def _open(self) -> Source:
        self.heartbeat()
        with self._device.slow_call():
            try:
                source = self._open_source()
            finally:
                self.heartbeat()
        self._device.note_opened()
        return source

    def _handle_first_frame(self, seconds: float) -> None:
        """Process the first frame after the start or after a loss; ``seconds`` is its length."""
        began = time.monotonic() - seconds
        was_lost = self._device.is_lost
        self._device.note_working()
        if was_lost:
            self._report_absence(began)
        if self._opened_at is None:
            self._opened_at = began

    def _report_absence(self, until: float) -> None:
        """Report a gap from the last frame before the loss of the microphone to the monotonic time ``until``."""
        if self._opened_at is not None:
            away = until - self._recorded_until
            if away > MIN_GAP_SECONDS:
                self.report(Gap(self._since_opened(self._recorded_until), away, "the microphone was disconnected"))

    def _since_opened(self, moment: float) -> float:
        return max(0.0, moment - (self._opened_at or moment))

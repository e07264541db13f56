"""The thread that owns the source: sound becomes frames on their way to the recognizer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from agent.audio.devices.device import Source, WaitPolicy, wait_for_device
from agent.audio.devices.reconnector import DeviceReconnector, ReconnectTiming
from agent.audio.format import SPEECH
from agent.errors import DeviceError
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import DeviceBack, DeviceLost, Event, Gap
from agent.pipeline.stage import Stage

PERIOD_SECONDS = 0.1

SHORTEST_SECONDS = 0.005
"""What is missing for less than that is only how late somebody looked at the clock."""

SILENT_FRAME_SECONDS = 0.1
SILENCE_SECONDS = 6.0
"""Longer than any pause that ends a turn."""


class Microphone(Stage):
    """Reads the source and puts its frames into the queue, until it is stopped; then the queue is closed.

    It opens, reads and closes the source itself. A source that is lost is looked for, at most once a second, until it
    is back; what was not heard meanwhile, from the last frame to the moment it is back, is reported as a ``Gap``, as is
    what the card itself dropped. A device that is not there at the start is waited for in the same way where
    ``wait_policy`` says so; else its ``DeviceError`` ends the thread. ``frame_seconds``: how long a read takes.

    While it is muted the source is closed: nothing is heard at all, and no gap is reported.
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
    ) -> None:
        timing = timing or ReconnectTiming()
        # A card may stop at the end of a frame, so the limit of a read grows with the excess of a frame over a period.
        io_timeout = timing.io_timeout_seconds + max(0.0, frame_seconds - PERIOD_SECONDS)
        self._device = DeviceReconnector(
            lambda reason: report(DeviceLost("microphone", reason)),
            lambda seconds: report(DeviceBack("microphone", seconds)),
            wait_policy=wait_policy,
            timing=replace(timing, io_timeout_seconds=io_timeout),
        )
        super().__init__("microphone", report)
        self._frames, self._open_source = frames, open_source
        self._stopped = threading.Event()
        self._wanted = threading.Event()  # cleared while it is muted
        self._wanted.set()
        self._opened_at: float | None = None  # when its first frame began
        self._heard_until = 0.0
        self._outdated: str | None = None  # by what the frame that is being read has become too old

    @property
    def stall_timeout(self) -> float:  # type: ignore[override]
        """The time in seconds that the current call may take before it counts as stuck."""
        return self._device.stall_timeout

    def mute(self) -> None:
        """Closes the source, from any thread. Twice is safe, and so is before the start."""
        self._wanted.clear()

    def unmute(self) -> None:
        """Opens the source again."""
        if not self._stopped.is_set():
            self._wanted.set()

    def reset_after_suspend(self, by: str) -> None:
        """What is being recorded, from any thread, is from before ``by`` and too old to be heard: it becomes a gap."""
        self._outdated = by

    def stop(self) -> None:
        self._stopped.set()
        self._wanted.set()

    def abort(self) -> None:
        self.stop()
        self._frames.clear()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                if not self._wanted.is_set():
                    if self._device.is_lost:
                        self._report_absence(time.monotonic())
                    self._be_muted()
                    self._heard_until = time.monotonic()  # what somebody muted is not missing
                    continue
                try:
                    self._listen()
                except DeviceError as error:
                    self._device.lost(error)
                    self.heartbeat()
                    self._device.wait(self._stopped)
        finally:
            self._frames.close()

    def _listen(self) -> None:
        """From one opening to the loss of the source, or to the end."""
        source = self._open()
        self._outdated = None  # nothing was being recorded
        try:
            lost = 0
            while not self._stopped.is_set() and self._wanted.is_set():
                frame = source.read()
                self.heartbeat()
                if self._opened_at is None or self._device.is_lost:
                    self._found(SPEECH.seconds_of(len(frame)))
                outdated, self._outdated = self._outdated, None
                if outdated is None:
                    self._frames.put(frame)
                else:
                    start = self._since_opened(self._heard_until)
                    self.report(Gap(start, SPEECH.seconds_of(len(frame)), outdated))
                self._heard_until = time.monotonic()
                if source.lost_frames > lost:
                    seconds = SPEECH.seconds_of((source.lost_frames - lost) * SPEECH.frame_bytes)
                    lost = source.lost_frames
                    start = self._since_opened(self._heard_until) - seconds
                    self.report(Gap(start, seconds, "the microphone overflowed"))
        finally:
            with self._device.slow_call():
                source.close()

    def _be_muted(self) -> None:
        """With the source closed: silence for as long as a turn that was under way may need to end, then nothing."""
        silence = bytes(SPEECH.bytes_of(SILENT_FRAME_SECONDS))
        for _ in range(round(SILENCE_SECONDS / SILENT_FRAME_SECONDS)):
            self.heartbeat()
            self._frames.put(silence)
            if self._wanted.wait(SILENT_FRAME_SECONDS):
                return
        while not self._wanted.wait(1.0):
            self.heartbeat()

    def _open(self) -> Source:
        self.heartbeat()
        with self._device.slow_call():
            try:
                source = self._open_source()
            finally:
                self.heartbeat()
        self._device.opened()
        return source

    def _found(self, seconds: float) -> None:
        """A frame of ``seconds`` has come: the source is there, for the first time or again."""
        began = time.monotonic() - seconds
        was_lost = self._device.is_lost
        self._device.working()
        if was_lost:
            self._report_absence(began)
        self._opened_at = began if self._opened_at is None else self._opened_at

    def _report_absence(self, until: float) -> None:
        """Report the audio that the lost microphone did not record up to ``until``."""
        if self._opened_at is not None:
            away = until - self._heard_until
            if away > SHORTEST_SECONDS:
                self.report(Gap(self._since_opened(self._heard_until), away, "the microphone was gone"))

    def _since_opened(self, moment: float) -> float:
        return max(0.0, moment - (self._opened_at or moment))

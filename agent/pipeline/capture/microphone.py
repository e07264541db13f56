"""The thread that owns the source: sound becomes frames on their way to the recognizer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.audio.devices.device import Source, WaitPolicy, wait_for_device
from agent.audio.format import SPEECH
from agent.errors import DeviceError
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import DeviceBack, DeviceLost, Event, Gap
from agent.pipeline.stage import Stage

PATIENCE_SECONDS = 2.0
"""A card that stands still is given up well before that, and opened anew: only who is in a call that never returns has
not come back by then. With a round of the daemon before it and one behind it, that is seen within three seconds; within
as many more as a frame is longer than a period of the card, which may stand still at the end of one."""

PERIOD_SECONDS = 0.1

SHORTEST_SECONDS = 0.005
"""What is missing for less than that is only how late somebody looked at the clock."""

OPENING_SECONDS = 10.0
"""Opening asks every card and sound server there is, and may have to wait until the speaker has been opened."""

RETRY_SECONDS = 1.0
FIRST_RETRY_SECONDS = 0.1
"""The first try after a loss comes at once, because most losses are hiccups."""

SILENT_FRAME_SECONDS = 0.1
SILENCE_SECONDS = 6.0
"""Longer than any pause that ends a turn."""


class Microphone(Stage):
    """Reads the source and puts its frames into the queue, until it is stopped; then the queue is closed.

    It opens, reads and closes the source itself. A source that is lost is looked for, at most once a second, until it
    is back; what was not heard meanwhile, from the last frame to the moment it is back, is reported as a ``Gap``, as is
    what the card itself dropped. A device that is not there at the start is waited for in the same way where
    ``patience`` says so; else its ``DeviceError`` ends the thread. ``frame_seconds``: how long a read takes.

    While it is muted the source is closed: nothing is heard at all, and no gap is reported.
    """

    def __init__(
        self,
        frames: FrameQueue,
        open_source: Callable[[], Source],
        report: Callable[[Event], None],
        *,
        frame_seconds: float = PERIOD_SECONDS,
        patience: WaitPolicy = wait_for_device,
    ) -> None:
        super().__init__("microphone", report)
        self.stall_timeout = self._reading_seconds = PATIENCE_SECONDS + max(0.0, frame_seconds - PERIOD_SECONDS)
        self._frames, self._open_source, self._patience = frames, open_source, patience
        self._stopped = threading.Event()
        self._wanted = threading.Event()  # cleared while it is muted
        self._wanted.set()
        self._opened_once = False
        self._opened_at: float | None = None  # when its first frame began
        self._heard_until = 0.0
        self._lost_at: float | None = None
        self._tries = 0  # since a frame was read
        self._outdated: str | None = None  # by what the frame that is being read has become too old

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
                    self._tell_gone(time.monotonic())
                    self._be_muted()
                    self._heard_until = time.monotonic()  # what somebody muted is not missing
                    continue
                try:
                    self._listen()
                except DeviceError as error:
                    if not self._opened_once and not self._patience(error):
                        raise
                    self._lose(error)
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
                if self._opened_at is None or self._lost_at is not None:
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
            self.stall_timeout = OPENING_SECONDS
            source.close()
            self.stall_timeout = self._reading_seconds

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
        self.stall_timeout = OPENING_SECONDS
        try:
            source = self._open_source()
            self._opened_once = True
            return source
        finally:
            self.heartbeat()
            self.stall_timeout = self._reading_seconds

    def _found(self, seconds: float) -> None:
        """A frame of ``seconds`` has come: the source is there, for the first time or again."""
        began = time.monotonic() - seconds
        self._tries = 0
        if self._lost_at is not None:
            self.report(DeviceBack("microphone", time.monotonic() - self._lost_at))
            self._tell_gone(began)
            self._lost_at = None
        self._opened_at = began if self._opened_at is None else self._opened_at

    def _tell_gone(self, until: float) -> None:
        """What a lost microphone has not heard, up to that moment."""
        if self._lost_at is not None and self._opened_at is not None:
            away = until - self._heard_until
            if away > SHORTEST_SECONDS:
                self.report(Gap(self._since_opened(self._heard_until), away, "the microphone was gone"))

    def _lose(self, error: DeviceError) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self.report(DeviceLost("microphone", str(error)))
        self.heartbeat()
        self._stopped.wait(RETRY_SECONDS if self._tries else FIRST_RETRY_SECONDS)
        self._tries += 1

    def _since_opened(self, moment: float) -> float:
        return max(0.0, moment - (self._opened_at or moment))
